//! What every request needs, made once by `gateway` and read by all.

use std::sync::Arc;

use prost_reflect::DescriptorPool;
use tokio::sync::Semaphore;

use crate::alias::AliasTable;
use crate::backend::Backend;
use crate::config::GatewayConfig;
use crate::docs::Pages;
use crate::rules::RouteTable;

/// The gateway's own paths; an rpc that has one of them takes its place.
pub(crate) const OWN_PATHS: [&str; 8] = [
    "/",
    "/docs",
    "/redoc",
    "/openapi.json",
    "/health",
    "/healthcheck",
    "/health/live",
    "/health/ready",
];

/// What every request needs.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The bounds.
    pub(crate) config: GatewayConfig,
    /// The rpcs' routes.
    pub(crate) routes: RouteTable,
    /// Old URLs.
    pub(crate) aliases: AliasTable,
    /// The server.
    pub(crate) backend: Backend,
    /// The server's types and those of `google.rpc`, for error details.
    pub(crate) detail_types: DescriptorPool,
    /// A place for each request that may be under way.
    pub(crate) places: Arc<Semaphore>,
    /// A place for each large message that may be read or written at once: as many as cores.
    pub(crate) heavy_places: Semaphore,
    /// The gateway's own paths that no rpc took.
    pub(crate) own_paths: Vec<&'static str>,
    /// The pages for people.
    pub(crate) pages: Pages,
}
