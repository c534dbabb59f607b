//! Health, the OpenAPI document, and the pages that show it.

use std::time::Duration;

use ferrocast_gateway::{Backend, Gateway, GatewayConfig};
use tonic_health::ServingStatus;

use crate::shop::{Reflection, Shop, both, get, in_process, pool};

#[tokio::test]
async fn alive_is_the_process_and_ready_the_server() {
    for gateway in both(GatewayConfig::default()).await {
        for path in ["/health", "/healthcheck", "/health/live", "/health/ready"] {
            let answer = get(&gateway, path).await;
            assert_eq!(
                (answer.status.as_u16(), answer.body.as_str()),
                (200, r#"{"status":"SERVING"}"#),
                "{path}"
            );
        }
    }
    let shop = Shop::new(Reflection::None);
    let gateway = Gateway::build(
        GatewayConfig::default(),
        pool(),
        Backend::in_process(shop.routes),
    )
    .unwrap();
    shop.health
        .set_service_status("", ServingStatus::NotServing)
        .await;
    let answer = get(&gateway, "/health/ready").await;
    assert_eq!(
        (answer.status.as_u16(), answer.body.as_str()),
        (503, r#"{"status":"NOT_SERVING"}"#)
    );
    assert_eq!(get(&gateway, "/health/live").await.status, 200);
}

#[tokio::test]
async fn a_server_that_is_away_is_not_ready_and_503() {
    let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
    let config = GatewayConfig {
        ready_timeout: Duration::from_secs(5),
        ..GatewayConfig::default()
    };
    let gateway = Gateway::build(config, pool(), Backend::remote(channel)).unwrap();
    assert_eq!(get(&gateway, "/health/ready").await.status, 503);
    assert_eq!(get(&gateway, "/health/live").await.status, 200);
    let answer = get(&gateway, "/v1/items/a").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(
        answer.json()["message"],
        "the gRPC server cannot be reached"
    );
}

#[tokio::test]
async fn pages_are_whole_and_fetch_nothing_from_elsewhere() {
    let gateway = in_process(GatewayConfig {
        title: "A <b> & c".to_owned(),
        ..GatewayConfig::default()
    });
    let root = get(&gateway, "/").await;
    assert_eq!(
        (root.status.as_u16(), root.header("location")),
        (307, "/docs")
    );
    for path in ["/docs", "/redoc"] {
        let page = get(&gateway, path).await;
        assert_eq!(page.status, 200);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert!(page.header("cache-control").contains("max-age"));
        let policy = page.header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("http"),
            "{policy}"
        );
        assert!(page.body.contains("<title>A &lt;b&gt; &amp; c</title>"));
        assert!(page.body.contains("openapi.json"));
        assert!(!page.body.contains("cdn.redoc.ly"));
        assert!(
            !page.body.contains("<script src") && !page.body.contains("<link "),
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_openapi_document_is_served_and_is_the_same_by_reflection() {
    let [in_process, remote] = both(GatewayConfig::default()).await;
    let answer = get(&in_process, "/openapi.json").await;
    assert_eq!(answer.header("content-type"), "application/json");
    let document = answer.json();
    assert_eq!(document, in_process.openapi());
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(
        document["paths"]["/v1/items/{name}"]["get"]["operationId"],
        "ShopService_Echo_2"
    );
    assert_eq!(
        document["paths"]["/v1/items/{name}:echo"]["post"]["summary"],
        "Answers with what it was sent"
    );
    assert_eq!(document, remote.openapi());
}
