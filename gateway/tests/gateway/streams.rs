//! Server streams, as lines and as events.

use std::time::Duration;

use axum::body::Body;
use ferrocast_gateway::GatewayConfig;
use http_body_util::BodyExt as _;
use serde_json::Value as Json;
use tower::ServiceExt as _;

use crate::shop::{both, get, in_process, request, send};

#[tokio::test]
async fn a_stream_is_one_object_a_line() {
    for gateway in both(GatewayConfig::default()).await {
        let answer = get(&gateway, "/v1/count/3").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "application/x-ndjson");
        assert_eq!(
            answer.body,
            "{\"number\":1}\n{\"number\":2}\n{\"number\":3}\n"
        );
        assert_eq!(get(&gateway, "/v1/count/0").await.body, "");
    }
}

#[tokio::test]
async fn a_stream_is_events_where_they_are_asked_for() {
    for gateway in both(GatewayConfig::default()).await {
        let request =
            request("GET", "/v1/count/2").header("accept", "text/html, text/event-stream;q=1");
        let answer = send(&gateway, request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.header("content-type"), "text/event-stream");
        assert_eq!(
            answer.body,
            "data: {\"number\":1}\n\ndata: {\"number\":2}\n\n"
        );
    }
}

#[tokio::test]
async fn an_error_before_the_stream_is_a_status() {
    for gateway in both(GatewayConfig::default()).await {
        let answer = get(&gateway, "/v1/count/-1").await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["status"], "OUT_OF_RANGE");
    }
}

#[tokio::test]
async fn an_error_in_the_stream_is_its_last_line_or_event() {
    for gateway in both(GatewayConfig::default()).await {
        let answer = get(&gateway, "/v1/count/3?failAfter=1").await;
        let lines: Vec<&str> = answer.body.lines().collect();
        assert_eq!(lines.len(), 2, "{}", answer.body);
        let error: Json = serde_json::from_str(lines[1]).unwrap();
        assert_eq!(error["error"]["status"], "DATA_LOSS");
        assert_eq!(error["error"]["requestId"], answer.header("x-request-id"));
        let request =
            request("GET", "/v1/count/3?failAfter=1").header("accept", "text/event-stream");
        let answer = send(&gateway, request.body(Body::empty()).unwrap()).await;
        let (_, error) = answer.body.split_once("event: error\ndata: ").unwrap();
        assert_eq!(
            serde_json::from_str::<Json>(error).unwrap()["status"],
            "DATA_LOSS"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_stream_meets_its_deadline() {
    let config = GatewayConfig {
        stream_timeout: Duration::from_secs(60),
        ..GatewayConfig::default()
    };
    let answer = get(&in_process(config), "/v1/count/1?forever=true").await;
    assert!(
        answer.body.starts_with("{\"number\":1}\n{\"error\":"),
        "{}",
        answer.body
    );
    assert!(answer.body.contains("DEADLINE_EXCEEDED"), "{}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn an_idle_event_stream_is_kept_alive() {
    let gateway = in_process(GatewayConfig::default());
    let request = request("GET", "/v1/count/0?forever=true").header("accept", "text/event-stream");
    let response = gateway
        .router()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let mut body = response.into_body();
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(frame.starts_with(b":"), "a comment");
}

#[tokio::test]
async fn a_stream_holds_its_place_until_it_is_dropped() {
    let gateway = in_process(GatewayConfig {
        requests_max: 1,
        ..GatewayConfig::default()
    });
    let open = request("GET", "/v1/count/1?forever=true")
        .body(Body::empty())
        .unwrap();
    let response = gateway.router().oneshot(open).await.unwrap();
    assert_eq!(get(&gateway, "/v1/items/a").await.status, 429);
    drop(response);
    assert_eq!(get(&gateway, "/v1/items/a").await.status, 200);
}
