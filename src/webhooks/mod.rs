//! What others tell us without being asked: MLflow, that an alias means another version.
//!
//! A delivery says only that there is something new; what it is, the registry is asked. So a delivery that is repeated,
//! late or lost does no harm: polling follows all the same.

mod signature;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::post,
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde_json::json;
use tokio::{sync::Semaphore, time};

use self::signature::Delivery;
use crate::{config::Secret, inference::Lifecycle};

/// Where MLflow delivers to.
pub const MLFLOW_PATH: &str = "/webhooks/mlflow";

/// The largest delivery; those of aliases have some hundred bytes.
const BODY_BYTES_MAX: usize = 64 << 10;

/// How long a delivery may take to come.
const BODY_WAIT_MAX: Duration = Duration::from_secs(10);

/// Deliveries at once; MLflow tries those beyond again.
const AT_ONCE_MAX: usize = 16;

/// Events after which an alias may mean another version.
const ENTITIES: [&str; 3] = ["registered_model", "model_version", "model_version_alias"];

struct Deliveries {
    secret: Secret,
    lifecycle: Arc<Lifecycle>,
    places: Semaphore,
}

#[derive(Deserialize)]
struct Event {
    entity: String,
    #[serde(default)]
    data: EventData,
}

#[derive(Deserialize, Default)]
struct EventData {
    #[serde(default)]
    name: String,
}

/// The routes of deliveries that are signed with a secret.
pub fn router(secret: Secret, lifecycle: Arc<Lifecycle>) -> Router {
    let deliveries = Arc::new(Deliveries {
        secret,
        lifecycle,
        places: Semaphore::new(AT_ONCE_MAX),
    });
    Router::new()
        .route(MLFLOW_PATH, post(take))
        .with_state(deliveries)
}

async fn take(State(deliveries): State<Arc<Deliveries>>, request: Request) -> Response {
    let Ok(_place) = deliveries.places.try_acquire() else {
        return answer(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many deliveries at once",
        );
    };
    let (head, body) = request.into_parts();
    let body = time::timeout(BODY_WAIT_MAX, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            return answer(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the delivery is too large, or broke off",
            );
        }
        Err(_) => return answer(StatusCode::REQUEST_TIMEOUT, "the delivery took too long"),
    };
    let now_seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    if !delivery(&head.headers, &body).is_signed_with(&deliveries.secret, now_seconds) {
        tracing::warn!("a delivery whose signature does not hold was refused");
        return answer(
            StatusCode::UNAUTHORIZED,
            "the signature does not hold, or is too old",
        );
    }
    let Ok(event) = serde_json::from_slice::<Event>(&body) else {
        return answer(
            StatusCode::BAD_REQUEST,
            "the delivery is no event of MLflow",
        );
    };
    let name = &event.data.name;
    let is_of_model = ENTITIES.contains(&event.entity.as_str());
    let asked = if is_of_model {
        deliveries
            .lifecycle
            .ask_soon(|location| is_of_registered_model(location, name))
    } else {
        0
    };
    tracing::info!(
        registered_model = name,
        asked,
        "MLflow says that a model has changed"
    );
    answer(
        StatusCode::OK,
        &format!("models that are looked at: {asked}"),
    )
}

fn delivery<'a>(headers: &'a HeaderMap, body: &'a Bytes) -> Delivery<'a> {
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    Delivery {
        id: header("x-mlflow-delivery-id"),
        timestamp: header("x-mlflow-timestamp"),
        signature: header("x-mlflow-signature"),
        body,
    }
}

/// Whether a location, as `mlflow:/credit_risk@champion`, is of a registered model.
fn is_of_registered_model(location: &str, name: &str) -> bool {
    let rest = location
        .strip_prefix("mlflow:/")
        .and_then(|path| path.strip_prefix(name));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['@', '/']))
}

fn answer(status: StatusCode, message: &str) -> Response {
    let body = Body::from(json!({ "message": message }).to_string());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_of_the_model_that_it_names() {
        for (location, is_of) in [
            ("mlflow:/risk", true),
            ("mlflow:/risk@champion", true),
            ("mlflow:/risk/3", true),
            ("mlflow:/risk_2@champion", false),
            ("s3://bucket/risk", false),
        ] {
            assert_eq!(
                is_of_registered_model(location, "risk"),
                is_of,
                "{location}"
            );
        }
    }
}
