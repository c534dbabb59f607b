-- What is released of each model at run time, and every change of it.

CREATE TABLE ferrocast_model_releases (
    model TEXT NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL,
    release TEXT NOT NULL
) STRICT;

CREATE TABLE ferrocast_model_release_events (
    model TEXT NOT NULL,
    revision INTEGER NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    peer TEXT NOT NULL,
    reason TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value_before TEXT,
    value_after TEXT,
    PRIMARY KEY (model, revision)
) STRICT;
