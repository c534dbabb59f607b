-- Feature services, and how far each source was loaded. Views keep two columns more, which are added to the tables that are
-- there already after this: how many there are is not known to SQL alone.

CREATE TABLE ferrocast_feature_services (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    project TEXT NOT NULL,
    definition TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;

ALTER TABLE ferrocast_materializations ADD COLUMN watermark INTEGER;
