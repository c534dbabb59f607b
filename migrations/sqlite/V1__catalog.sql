-- What is defined, and what was loaded. The tables of the views themselves (fv_<view>) are made when definitions are applied.
-- Points in time are whole microseconds since 1970-01-01T00:00:00Z.

CREATE TABLE ferrocast_catalog (
    only_row INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    revision INTEGER NOT NULL
) STRICT;
INSERT INTO ferrocast_catalog (revision) VALUES (0);

CREATE TABLE ferrocast_entities (
    name TEXT NOT NULL PRIMARY KEY,
    definition TEXT NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE ferrocast_feature_views (
    name TEXT NOT NULL PRIMARY KEY,
    project TEXT NOT NULL,
    definition TEXT NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE ferrocast_materializations (
    view TEXT NOT NULL,
    source TEXT NOT NULL,
    digest TEXT NOT NULL,
    rows_written INTEGER NOT NULL,
    rows_late INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    PRIMARY KEY (view, source)
) STRICT;
