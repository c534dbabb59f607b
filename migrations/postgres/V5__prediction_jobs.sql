-- Asynchronous prediction: jobs, what they are to score, and what came of it, chunk by chunk.

CREATE TABLE ferrocast_prediction_jobs (
    id uuid NOT NULL PRIMARY KEY,
    request_id text UNIQUE,
    input_digest text NOT NULL,
    model text NOT NULL,
    wanted_version text NOT NULL,
    version text,
    version_digest text,
    state text NOT NULL,
    rows_total bigint NOT NULL,
    rows_done bigint NOT NULL DEFAULT 0,
    chunk_rows bigint NOT NULL,
    attempts bigint NOT NULL DEFAULT 0,
    -- Attempts since a chunk was last stored; these have a bound.
    tries bigint NOT NULL DEFAULT 0,
    worker text,
    -- Made anew by every claim; whoever holds an older one writes nothing.
    lease uuid,
    -- From when a worker may take it: a running job's lease ends then.
    claim_at timestamptz NOT NULL,
    submitted_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    expires_at timestamptz NOT NULL,
    error_kind text,
    error text,
    input_bytes bigint NOT NULL,
    result_bytes bigint NOT NULL DEFAULT 0
);

CREATE INDEX ferrocast_prediction_jobs_claim_at ON ferrocast_prediction_jobs (claim_at)
    WHERE state IN ('QUEUED', 'RUNNING');
CREATE INDEX ferrocast_prediction_jobs_expires_at ON ferrocast_prediction_jobs (expires_at);

-- Deferred: chunks are written before their job, so that the count of jobs is locked for a moment only.
CREATE TABLE ferrocast_prediction_job_inputs (
    job_id uuid NOT NULL REFERENCES ferrocast_prediction_jobs (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    chunk bigint NOT NULL,
    input bytea NOT NULL,
    PRIMARY KEY (job_id, chunk)
);

CREATE TABLE ferrocast_prediction_job_results (
    job_id uuid NOT NULL REFERENCES ferrocast_prediction_jobs (id) ON DELETE CASCADE,
    chunk bigint NOT NULL,
    result bytea NOT NULL,
    PRIMARY KEY (job_id, chunk)
);
