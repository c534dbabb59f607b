//! What happens around every request, in one list; each layer in a file of its own.
//!
//! The same stack stands before the gRPC listener and before the gateway's calls within the process.

mod deadline;
mod request_fault;
mod request_id;
mod request_log;
mod shed;

use std::{sync::Arc, time::Duration};

use axum::middleware::{from_fn, from_fn_with_state};
use tokio::sync::Semaphore;
use tonic::service::Routes;

pub use request_id::REQUEST_ID_HEADER;

/// Bounds on requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Requests answered at once; those beyond are shed.
    pub in_flight_max: usize,
    /// How long a request may take where its caller sets no shorter deadline.
    pub request_max: Duration,
}

/// Puts the layers around the services. Read from the bottom up: a request meets the last one first.
pub fn around(services: Routes, bounds: Bounds) -> Routes {
    let permits = Arc::new(Semaphore::new(bounds.in_flight_max));
    let router = services
        .into_axum_router()
        .layer(from_fn(request_fault::rename))
        .layer(from_fn_with_state(bounds.request_max, deadline::enforce))
        .layer(from_fn_with_state(permits, shed::shed))
        .layer(from_fn(request_log::log))
        .layer(from_fn(request_id::identify));
    Routes::from(router)
}

/// Whether a request asks for health, which is answered whatever the load.
fn is_health_check(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.Health/")
}
