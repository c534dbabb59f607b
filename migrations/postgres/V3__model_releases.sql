-- What is released of each model at run time, and every change of it.

CREATE TABLE ferrocast_model_releases (
    model text NOT NULL PRIMARY KEY,
    revision bigint NOT NULL,
    release text NOT NULL
);

CREATE TABLE ferrocast_model_release_events (
    model text NOT NULL,
    revision bigint NOT NULL,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    peer text NOT NULL,
    reason text NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    value_before text,
    value_after text,
    PRIMARY KEY (model, revision)
);
