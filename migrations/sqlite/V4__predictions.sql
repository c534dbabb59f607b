-- The ledger: what was predicted. Ids are UUIDs of version 7, which begin with their time: a day is a range of ids. What is
-- older than ledger.retention_days is deleted, some rows at a time.

-- Versions as they were when they predicted: a row each, some kilobytes at the most, never dropped.
CREATE TABLE ferrocast_prediction_versions (
    key BLOB NOT NULL PRIMARY KEY,
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    description TEXT NOT NULL
) STRICT;

-- score, label and entity are for SQL by hand; the exact inputs and outputs are in record, whose first byte names its form.
-- A score that is no number is NULL.
CREATE TABLE ferrocast_predictions (
    id BLOB NOT NULL PRIMARY KEY,
    version_key BLOB NOT NULL,
    at INTEGER NOT NULL,
    latency_us INTEGER NOT NULL,
    score REAL,
    role INTEGER NOT NULL,
    label TEXT NOT NULL,
    entity TEXT NOT NULL,
    record BLOB NOT NULL
) STRICT;
