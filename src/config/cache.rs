//! Rows kept in memory before the store: its section of the configuration.

use std::time::Duration;

use super::{MEMORY_BYTES_MAX, layers::Layers, millis, whole};

/// Rows kept in memory before the store.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// Bytes at the most; 0: none are kept.
    pub bytes_max: usize,
    /// How long a row is answered from memory.
    pub age_max: Duration,
    /// How late a change by another server is seen; none: changes are not followed.
    pub stale_max: Option<Duration>,
}

/// Reads the section.
pub(super) fn read(layers: &mut Layers) -> CacheConfig {
    CacheConfig {
        bytes_max: whole(layers, "cache.bytes_max", 0, MEMORY_BYTES_MAX),
        age_max: millis(layers, "cache.age_ms_max", 1),
        stale_max: Some(millis(layers, "cache.stale_ms_max", 0)).filter(|bound| !bound.is_zero()),
    }
}
