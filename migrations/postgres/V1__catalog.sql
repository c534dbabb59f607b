-- What is defined, and what was loaded. The tables of the views themselves (fv_<view>) are made when definitions are applied.

CREATE TABLE ferrocast_catalog (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    revision bigint NOT NULL
);
INSERT INTO ferrocast_catalog (revision) VALUES (0);

CREATE TABLE ferrocast_entities (
    name text PRIMARY KEY,
    definition text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE ferrocast_feature_views (
    name text PRIMARY KEY,
    project text NOT NULL,
    definition text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE ferrocast_materializations (
    view text NOT NULL,
    source text NOT NULL,
    digest text NOT NULL,
    rows_written bigint NOT NULL,
    rows_late bigint NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (view, source)
);
