-- Feature services, how far each source was loaded, and what every view's table keeps beside its features.

CREATE TABLE ferrocast_feature_services (
    name text NOT NULL,
    version bigint NOT NULL,
    project text NOT NULL,
    definition text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, version)
);

ALTER TABLE ferrocast_materializations ADD COLUMN watermark timestamptz;

-- Neither column rewrites a table: the one is null, the other's default is a constant. A table that somebody has dropped
-- by hand is no reason to stop here.
DO $$
DECLARE
    view_name text;
BEGIN
    FOR view_name IN SELECT name FROM ferrocast_feature_views ORDER BY name LOOP
        EXECUTE format(
            'ALTER TABLE IF EXISTS %I ADD COLUMN _feature_times jsonb, ADD COLUMN _generation integer NOT NULL DEFAULT 0',
            'fv_' || view_name
        );
    END LOOP;
END
$$;
