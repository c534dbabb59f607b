//! What happens around every request, in one list; each part in a file of its own.
//!
//! The same stack stands before the gRPC listener and before the gateway's calls within the process. It is one service and
//! not a layer a part: a request would be boxed and moved once a layer.

mod deadline;
mod request_fault;
mod request_id;
mod request_log;
mod shed;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{extract::Request, response::Response, routing::Route};
use tokio::sync::Semaphore;
use tonic::service::Routes;
use tower::{Service, layer::layer_fn};
use tracing::Instrument;

pub use request_id::REQUEST_ID_HEADER;

use crate::grpc::to_status;

/// Bounds on requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Requests answered at once; those beyond are shed.
    pub in_flight_max: usize,
    /// How long a request may take where its caller sets no shorter deadline.
    pub request_max: Duration,
}

/// Puts the stack around the services.
pub fn around(services: Routes, bounds: Bounds) -> Routes {
    let permits = Arc::new(Semaphore::new(bounds.in_flight_max));
    let stack = layer_fn(move |services: Route| Stack {
        services,
        permits: Arc::clone(&permits),
        request_max: bounds.request_max,
    });
    Routes::from(services.into_axum_router().layer(stack))
}

/// A service with everything that happens around it.
#[derive(Clone)]
struct Stack {
    services: Route,
    permits: Arc<Semaphore>,
    request_max: Duration,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

impl Service<Request> for Stack {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.services, context)
    }

    fn call(&mut self, mut request: Request) -> Answering {
        let id = request_id::identify(&request);
        let line = request_log::begin(&request, id.as_ref());
        let span = line.span();
        let place = match shed::place(&self.permits, &mut request) {
            Ok(place) => place,
            Err(shed) => {
                let shed = span.in_scope(|| to_status(&shed)).into_http();
                let response = request_id::tell(id, request_log::end(line, shed));
                return Box::pin(async { Ok(response) });
            }
        };
        let deadlines = deadline::of(&request, self.request_max);
        let answering = self.services.call(request);
        let answered = async move {
            let Ok(response) = deadline::enforce(deadlines, answering).await;
            drop(place);
            let response = request_log::end(line, request_fault::rename(response));
            Ok(request_id::tell(id, response))
        };
        Box::pin(answered.instrument(span))
    }
}

/// Whether a request asks for health, which is answered whatever the load.
fn is_health_check(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.Health/")
}
