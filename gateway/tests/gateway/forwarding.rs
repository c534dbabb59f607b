//! What goes on to the server, and what comes back beside the body.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::ConnectInfo;
use ferrocast_gateway::GatewayConfig;

use crate::shop::{both, get, in_process, request, send};

#[tokio::test]
async fn ids_credentials_traces_and_deadlines_go_on() {
    for gateway in both(GatewayConfig::default()).await {
        let mut request = request("GET", "/v1/items/metadata")
            .header("x-request-id", "my-id")
            .header("authorization", "Bearer t")
            .header(
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            )
            .header("tracestate", "a=b")
            .header("x-forwarded-for", "10.0.0.1")
            .header("grpc-timeout", "5S")
            .header("cookie", "secret=1")
            .header("x-other", "no")
            .body(Body::empty())
            .unwrap();
        let peer: SocketAddr = "192.0.2.7:1234".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = send(&gateway, request).await;
        assert_eq!(answer.header("x-request-id"), "my-id");
        let metadata = answer.json()["row"].clone();
        assert_eq!(metadata["x-request-id"], "my-id");
        assert_eq!(metadata["authorization"], "Bearer t");
        assert_eq!(
            metadata["traceparent"],
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        );
        assert_eq!(metadata["tracestate"], "a=b");
        assert_eq!(metadata["x-forwarded-for"], "10.0.0.1, 192.0.2.7");
        assert!(
            metadata["grpc-timeout"]
                .as_str()
                .is_some_and(|timeout| timeout.len() <= 9),
            "{metadata}"
        );
        assert!(
            metadata.get("cookie").is_none() && metadata.get("x-other").is_none(),
            "{metadata}"
        );
    }
}

#[tokio::test]
async fn a_request_without_a_sane_id_gets_one() {
    let gateway = in_process(GatewayConfig::default());
    let fresh = get(&gateway, "/v1/items/metadata").await;
    let id = fresh.header("x-request-id").to_owned();
    assert_eq!(id.len(), 36);
    assert_eq!(fresh.json()["row"]["x-request-id"], id.as_str());
    for faulty in ["has a space", &"x".repeat(129), ""] {
        let request = request("GET", "/health")
            .header("x-request-id", faulty)
            .body(Body::empty())
            .unwrap();
        assert_eq!(
            send(&gateway, request).await.header("x-request-id").len(),
            36
        );
    }
}

#[tokio::test]
async fn only_allowed_origins_get_cors_headers() {
    let config = GatewayConfig {
        cors_allowed_origins: vec!["https://app.example.com".to_owned()],
        ..GatewayConfig::default()
    };
    let gateway = in_process(config);
    let from = |origin: &str| {
        request("GET", "/v1/items/a")
            .header("origin", origin)
            .body(Body::empty())
            .unwrap()
    };
    let answer = send(&gateway, from("https://app.example.com")).await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://app.example.com"
    );
    assert!(
        answer
            .header("access-control-expose-headers")
            .contains("x-request-id")
    );
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    let answer = send(&gateway, from("https://evil.example.com")).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    let preflight = request("OPTIONS", "/v1/items/a:echo")
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type",
        )
        .body(Body::empty())
        .unwrap();
    let answer = send(&gateway, preflight).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("access-control-allow-methods")
            .contains("POST")
    );
    assert!(
        answer
            .header("access-control-allow-headers")
            .contains("authorization")
    );
}

#[tokio::test]
async fn without_origins_there_is_no_cors_and_a_star_is_any() {
    let from = || {
        request("GET", "/v1/items/a")
            .header("origin", "https://a.b")
            .body(Body::empty())
            .unwrap()
    };
    let answer = send(&in_process(GatewayConfig::default()), from()).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    let star = GatewayConfig {
        cors_allowed_origins: vec!["*".to_owned()],
        ..GatewayConfig::default()
    };
    let answer = send(&in_process(star), from()).await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
}

/// Collects what is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn every_request_is_logged_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(move || writer.clone());
    // For all threads: what another one logs first would be off for good else. Others' lines have other ids.
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let gateway = in_process(GatewayConfig::default());
    for (uri, id) in [
        ("/v1/items/secret?nickname=secret", "logged-1"),
        ("/nope", "logged-2"),
        ("/docs", "logged-3"),
    ] {
        let request = request("GET", uri).header("x-request-id", id);
        send(&gateway, request.body(Body::empty()).unwrap()).await;
    }
    // One that its caller gives up.
    let given_up = request("POST", "/v1/hang").header("x-request-id", "logged-4");
    let given_up = send(&gateway, given_up.body(Body::empty()).unwrap());
    assert!(futures_util::FutureExt::now_or_never(given_up).is_none());
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let lines: Vec<_> = lines
        .iter()
        .filter(|line| line["target"] == "gateway")
        .filter(|line| {
            let id = line["request_id"].as_str().unwrap_or_default();
            id.starts_with("logged-")
        })
        .collect();
    let told = |line: &serde_json::Value| {
        assert!(line["latency_ms"].is_number());
        format!(
            "{} {} {} {}",
            line["request_id"], line["method"], line["route"], line["status"]
        )
        .replace('"', "")
    };
    let told: Vec<_> = lines.into_iter().map(told).collect();
    assert_eq!(
        told,
        [
            "logged-1 GET /v1/items/{name} 200",
            "logged-2 GET - 404",
            "logged-3 GET /docs 200",
            "logged-4 POST - 499"
        ]
    );
    assert!(!text.contains("secret"), "values are not logged");
}
