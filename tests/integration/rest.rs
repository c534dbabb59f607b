//! What the gateway adds to the rpcs: health, pages, request ids, aliases, CORS.

use serde_json::json;

use crate::support::Running;

const BY_ENTITY: &str = "/v1/models/credit_risk:predictByEntity";

#[tokio::test(flavor = "multi_thread")]
async fn health_and_pages() {
    let running = Running::start().await;
    for path in ["/health", "/healthcheck", "/health/live", "/health/ready"] {
        let (status, answer) = running.get(path).await;
        assert_eq!(
            (status, &answer["status"]),
            (200, &json!("SERVING")),
            "{path}"
        );
    }
    let (status, document) = running.get("/openapi.json").await;
    assert_eq!(status, 200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for (path, script) in [("/docs", "SwaggerUI"), ("/redoc", "Redoc")] {
        let response = running.http.get(running.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let page = response.text().await.unwrap();
        assert!(
            page.contains(script) && page.contains("openapi.json"),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_goes_through_and_comes_back() {
    let running = Running::start().await;
    let request = running
        .http
        .post(running.url("/v1/models/nope:predict"))
        .header("x-request-id", "my-own-id")
        .json(&json!({"rows": [{}]}));
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "my-own-id");
    let answer: serde_json::Value = response.json().await.unwrap();
    assert_eq!(answer["requestId"], "my-own-id");

    let first = running.http.get(running.url("/v1/models")).send();
    let first = first.await.unwrap().headers()["x-request-id"].clone();
    let second = running.http.get(running.url("/v1/models")).send();
    let second = second.await.unwrap().headers()["x-request-id"].clone();
    assert_ne!(first, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_url_leads_to_the_route_that_the_configuration_names() {
    let alias = "POST /predict -> POST /v1/models/credit_risk:predictByEntity";
    let running = Running::with(&[
        ("gateway.aliases", alias),
        ("gateway.cors_allowed_origins", "https://app.example.com"),
    ])
    .await;
    let body = json!({"entities": [{"loan_id": "LC00001"}]});
    let (status, answer) = running.post("/predict", body.clone()).await;
    assert_eq!(status, 200, "{answer}");
    let (_, direct) = running.post(BY_ENTITY, body).await;
    assert_eq!(
        answer["predictions"][0]["score"],
        direct["predictions"][0]["score"]
    );

    let preflight = running
        .http
        .request(reqwest::Method::OPTIONS, running.url(BY_ENTITY))
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "POST");
    let preflight = preflight.send().await.unwrap();
    assert_eq!(
        preflight.headers()["access-control-allow-origin"],
        "https://app.example.com"
    );
}
