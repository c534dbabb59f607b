-- The ledger: what was predicted. Ids are UUIDs of version 7, which begin with their time: a day is a range of ids. The
-- server makes a partition a day, ahead, and drops whole ones (ledger.retention_days).

-- Versions as they were when they predicted: a row each, some kilobytes at the most, never dropped.
CREATE TABLE ferrocast_prediction_versions (
    key uuid NOT NULL PRIMARY KEY,
    model text NOT NULL,
    version text NOT NULL,
    digest text NOT NULL,
    description text NOT NULL
);

-- score, label and entity are for SQL by hand; the exact inputs and outputs are in record, whose first byte names its form.
CREATE TABLE ferrocast_predictions (
    id uuid NOT NULL PRIMARY KEY,
    version_key uuid NOT NULL,
    at timestamptz NOT NULL,
    latency_us bigint NOT NULL,
    score double precision NOT NULL,
    role smallint NOT NULL,
    label text NOT NULL,
    entity text NOT NULL,
    record bytea NOT NULL
) PARTITION BY RANGE (id);
