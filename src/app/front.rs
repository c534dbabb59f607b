//! What stands before the store, as the configuration says.

use std::sync::Arc;

use crate::{
    config::Config,
    features::{CacheBounds, FrontStore, JoinBounds, OnlineStore},
};

/// The store with its reads joined, and with a cache before it where the configuration asks for one.
pub(super) fn before(store: Arc<dyn OnlineStore>, config: &Config) -> FrontStore {
    let (reads, cache) = (&config.reads, &config.cache);
    let joins = JoinBounds {
        queries_max: reads.queries_max,
        query_keys_max: reads.query_keys_max,
        waiting_keys_max: reads.waiting_keys_max,
    };
    let bounds = CacheBounds {
        bytes_max: u64::try_from(cache.bytes_max).unwrap_or(u64::MAX),
        age_max: cache.age_max,
        stale_max: cache.stale_max,
    };
    FrontStore::new(store, joins, (cache.bytes_max > 0).then_some(bounds))
}
