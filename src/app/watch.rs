//! Follows what changes outside this process: definitions that another one applies, files of models, and what is released
//! of them on other servers.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::{catalog::CatalogHandle, error::Result, inference::Lifecycle, stores::Store};

/// Between two things that are done without a wait of their own.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// Asks the store for new definitions at every interval, until the stop.
pub(super) async fn catalog(
    store: Arc<Store>,
    catalog: Arc<CatalogHandle>,
    interval: Duration,
    stop: CancellationToken,
) {
    let follow = || follow_catalog(Arc::clone(&store), Arc::clone(&catalog)).boxed();
    every(interval, stop, "the catalog", follow).await;
}

/// Looks at the models at every interval, until the stop: at their files, and at what they were checked against.
pub(super) async fn models(lifecycle: Arc<Lifecycle>, interval: Duration, stop: CancellationToken) {
    let follow = || {
        let lifecycle = Arc::clone(&lifecycle);
        async move { lifecycle.follow_files().await }.boxed()
    };
    every(interval, stop, "the models", follow).await;
}

/// Asks where models come from, each when its time has come, until the stop.
pub(super) async fn sources(lifecycle: Arc<Lifecycle>, stop: CancellationToken) {
    let follow = || {
        let lifecycle = Arc::clone(&lifecycle);
        async move {
            lifecycle.wait_for_sources().await;
            lifecycle.follow_sources().await
        }
        .boxed()
    };
    // Where it fails before it has waited for anything.
    every(PAUSE_MIN, stop, "the sources of models", follow).await;
}

/// Asks the store what is released of models, at every interval, until the stop; a load does not hold it up.
pub(super) async fn releases(
    lifecycle: Arc<Lifecycle>,
    interval: Duration,
    stop: CancellationToken,
) {
    let follow = || {
        let lifecycle = Arc::clone(&lifecycle);
        async move { lifecycle.follow_releases().await }.boxed()
    };
    every(interval, stop, "what is released", follow).await;
}

async fn follow_catalog(store: Arc<Store>, catalog: Arc<CatalogHandle>) -> Result<()> {
    catalog.follow(store.as_ref()).await
}

async fn every(
    interval: Duration,
    stop: CancellationToken,
    followed: &'static str,
    follow: impl Fn() -> BoxFuture<'static, Result<()>>,
) {
    let mut is_failing = false;
    while stop
        .run_until_cancelled(time::sleep(interval))
        .await
        .is_some()
    {
        let Some(done) = stop.run_until_cancelled(follow()).await else {
            return;
        };
        match done {
            Ok(()) => is_failing = false,
            // Said once: health tells whether the store is away.
            Err(fault) if !is_failing => {
                is_failing = true;
                tracing::warn!(%fault, "{followed} cannot be followed; trying on");
            }
            Err(_) => {}
        }
    }
}

/// This process among all that share a database, for people.
pub(super) fn process_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}
