//! Which database, and how it is used: its section of the configuration.

use std::{path::PathBuf, time::Duration};

use super::{CONNECTIONS_MAX, Secret, layers::Layers, millis, whole};

/// More would wait for each other longer than another connection takes to make.
const PINNED_QUERIES_MAX: usize = 1_000;

/// Which database, and how it is used.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// `postgres://…` or `sqlite:PATH`; may hold a password.
    pub url: Secret,
    /// Whether `serve` brings the schema up to date.
    pub migrate_at_start: bool,
    /// Connections.
    pub connections_max: usize,
    /// Connections beside these that only read by key; with Postgres.
    pub pinned_connections_max: usize,
    /// Queries at once on one of them.
    pub pinned_queries_max: usize,
    /// How long nothing comes there before those who share it go elsewhere.
    pub pinned_wait_max: Duration,
    /// How long connecting may take.
    pub connect_max: Duration,
    /// How long a request waits for a free connection.
    pub acquire_max: Duration,
    /// How long one statement may take.
    pub statement_max: Duration,
    /// How long one materialization or migration may take.
    pub load_max: Duration,
    /// How often the store is asked for new definitions.
    pub catalog_interval: Duration,
}

/// Reads the section.
pub(super) fn read(layers: &mut Layers) -> DatabaseConfig {
    let url = layers.text("database.url").unwrap_or_else(|| {
        let data_dir = layers.text("server.data_dir").unwrap_or_default();
        format!(
            "sqlite:{}",
            PathBuf::from(data_dir).join("ferrocast.db").display()
        )
    });
    if !["postgres://", "postgresql://", "sqlite:"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        layers.fault(
            "database.url",
            "expected postgres://…, postgresql://… or sqlite:PATH",
        );
    }
    DatabaseConfig {
        url: Secret::from(url),
        migrate_at_start: layers.parse("database.migrate_at_start", |_| true, "true or false"),
        connections_max: whole(layers, "database.connections_max", 1, CONNECTIONS_MAX),
        pinned_connections_max: whole(
            layers,
            "database.pinned_connections_max",
            0,
            CONNECTIONS_MAX,
        ),
        pinned_queries_max: whole(layers, "database.pinned_queries_max", 1, PINNED_QUERIES_MAX),
        pinned_wait_max: millis(layers, "database.pinned_wait_ms_max", 1),
        connect_max: millis(layers, "database.connect_ms_max", 1),
        acquire_max: millis(layers, "database.acquire_ms_max", 1),
        statement_max: millis(layers, "database.statement_ms_max", 1),
        load_max: millis(layers, "database.load_ms_max", 1),
        catalog_interval: millis(layers, "database.catalog_interval_ms", 50),
    }
}
