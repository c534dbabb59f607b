//! Load shedding: beyond so many requests at once, the next is refused at once instead of queued.
//!
//! A request holds its place until it is answered; what goes on after that, as a stream does, takes the place with it.

use std::sync::Arc;

use axum::extract::Request;
use tokio::sync::Semaphore;

use super::is_health_check;
use crate::{
    error::{Error, ErrorKind, Result},
    grpc::InFlight,
};

/// What counts a request as being answered.
pub(super) type Place = Option<InFlight>;

/// A place for a request, which it takes along, too; health needs none.
///
/// # Errors
/// `Overloaded` where there is no place left.
pub(super) fn place(permits: &Arc<Semaphore>, request: &mut Request) -> Result<Place> {
    if is_health_check(request.uri().path()) {
        return Ok(None);
    }
    let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
        return Err(Error::new(
            ErrorKind::Overloaded,
            "the server answers as many requests as it may (server.requests_in_flight_max); try again later",
        ));
    };
    let place = InFlight::new(Arc::new(permit));
    request.extensions_mut().insert(place.clone());
    Ok(Some(place))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use axum::{Router, body::Body, response::Response, routing::post};
    use tokio::sync::{Mutex, Notify};
    use tonic::{Code, Status, service::Routes};
    use tower::ServiceExt;

    use super::*;
    use crate::middleware::{Bounds, around};

    /// A router that takes one request at once.
    fn for_one(router: Router) -> Router {
        let bounds = Bounds {
            in_flight_max: 1,
            request_max: Duration::from_secs(60),
        };
        around(Routes::from(router), bounds).into_axum_router()
    }

    #[tokio::test]
    async fn the_next_is_refused_while_one_runs_and_taken_after_it() {
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begins, goes_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        let router = Router::new()
            .route(
                "/slow",
                post(move || async move {
                    begins.notify_one();
                    goes_on.notified().await;
                }),
            )
            .route("/grpc.health.v1.Health/Check", post(|| async {}));
        let router = for_one(router);
        let call = |path: &str| {
            let request = Request::post(path).body(Body::empty()).unwrap();
            router.clone().oneshot(request)
        };
        let code = |response: &Response| {
            Status::from_header_map(response.headers()).map(|status| status.code())
        };

        let first = tokio::spawn(call("/slow"));
        begun.notified().await;
        let second = call("/slow").await.unwrap();
        assert_eq!(code(&second), Some(Code::ResourceExhausted));
        let health = call("/grpc.health.v1.Health/Check").await.unwrap();
        assert_eq!(code(&health), None);

        go_on.notify_one();
        assert_eq!(code(&first.await.unwrap().unwrap()), None);
        go_on.notify_one();
        assert_eq!(code(&call("/slow").await.unwrap()), None);
    }

    #[tokio::test]
    async fn what_takes_the_place_with_it_counts_until_it_lets_go() {
        let kept = Arc::new(Mutex::new(None));
        let keeps = Arc::clone(&kept);
        let router = Router::new().route(
            "/stream",
            post(move |mut request: Request| async move {
                *keeps.lock().await = request.extensions_mut().remove::<InFlight>();
            }),
        );
        let router = for_one(router);
        let call = || {
            let request = Request::post("/stream").body(Body::empty()).unwrap();
            router.clone().oneshot(request)
        };
        let is_shed = |response: Response| Status::from_header_map(response.headers()).is_some();

        assert!(!is_shed(call().await.unwrap()));
        assert!(is_shed(call().await.unwrap()));
        kept.lock().await.take();
        assert!(!is_shed(call().await.unwrap()));
    }
}
