-- Asynchronous prediction: jobs, what they are to score, and what came of it, chunk by chunk.

CREATE TABLE ferrocast_prediction_jobs (
    id TEXT NOT NULL PRIMARY KEY,
    request_id TEXT UNIQUE,
    input_digest TEXT NOT NULL,
    model TEXT NOT NULL,
    wanted_version TEXT NOT NULL,
    version TEXT,
    version_digest TEXT,
    state TEXT NOT NULL,
    rows_total INTEGER NOT NULL,
    rows_done INTEGER NOT NULL DEFAULT 0,
    chunk_rows INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    -- Attempts since a chunk was last stored; these have a bound.
    tries INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    -- Made anew by every claim; whoever holds an older one writes nothing.
    lease TEXT,
    -- From when a worker may take it: a running job's lease ends then.
    claim_at INTEGER NOT NULL,
    submitted_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    expires_at INTEGER NOT NULL,
    error_kind TEXT,
    error TEXT,
    input_bytes INTEGER NOT NULL,
    result_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX ferrocast_prediction_jobs_claim_at ON ferrocast_prediction_jobs (claim_at)
    WHERE state IN ('QUEUED', 'RUNNING');
CREATE INDEX ferrocast_prediction_jobs_expires_at ON ferrocast_prediction_jobs (expires_at);

CREATE TABLE ferrocast_prediction_job_inputs (
    job_id TEXT NOT NULL REFERENCES ferrocast_prediction_jobs (id) ON DELETE CASCADE,
    chunk INTEGER NOT NULL,
    input BLOB NOT NULL,
    PRIMARY KEY (job_id, chunk)
) STRICT;

CREATE TABLE ferrocast_prediction_job_results (
    job_id TEXT NOT NULL REFERENCES ferrocast_prediction_jobs (id) ON DELETE CASCADE,
    chunk INTEGER NOT NULL,
    result BLOB NOT NULL,
    PRIMARY KEY (job_id, chunk)
) STRICT;
