//! How reads of the store are joined: its section of the configuration.

use super::{CONNECTIONS_MAX, MEMORY_BYTES_MAX, layers::Layers, whole};

/// How reads of the store are joined.
#[derive(Debug, Clone, Copy)]
pub struct ReadsConfig {
    /// Queries of a view that run at once.
    pub queries_max: usize,
    /// Keys that are joined to one query.
    pub query_keys_max: usize,
    /// Keys of a view that may wait.
    pub waiting_keys_max: usize,
}

/// Reads the section.
pub(super) fn read(layers: &mut Layers) -> ReadsConfig {
    ReadsConfig {
        queries_max: whole(layers, "reads.queries_max", 1, CONNECTIONS_MAX),
        query_keys_max: whole(layers, "reads.query_keys_max", 1, MEMORY_BYTES_MAX),
        waiting_keys_max: whole(layers, "reads.waiting_keys_max", 1, MEMORY_BYTES_MAX),
    }
}
