//! Every error has one shape, the right status, and names what is at fault.

use std::time::Duration;

use axum::body::Body;
use ferrocast_gateway::GatewayConfig;
use serde_json::{Value as Json, json};

use crate::shop::{Answer, both, get, in_process, post, request, send};

fn assert_error(answer: &Answer, http: u16, status: &str) -> Json {
    assert_eq!(answer.status, http, "{}", answer.body);
    assert_eq!(answer.header("content-type"), "application/json");
    let error = answer.json();
    assert_eq!(error["code"], http);
    assert_eq!(error["status"], status);
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{error}"
    );
    assert!(error["details"].is_array());
    assert_eq!(error["requestId"], answer.header("x-request-id"));
    error
}

#[tokio::test]
async fn every_grpc_code_has_its_http_status() {
    let codes = [
        (1, 499, "CANCELLED"),
        (2, 500, "UNKNOWN"),
        (3, 400, "INVALID_ARGUMENT"),
        (4, 504, "DEADLINE_EXCEEDED"),
        (5, 404, "NOT_FOUND"),
        (6, 409, "ALREADY_EXISTS"),
        (7, 403, "PERMISSION_DENIED"),
        (8, 429, "RESOURCE_EXHAUSTED"),
        (9, 400, "FAILED_PRECONDITION"),
        (10, 409, "ABORTED"),
        (11, 400, "OUT_OF_RANGE"),
        (12, 501, "UNIMPLEMENTED"),
        (13, 500, "INTERNAL"),
        (14, 503, "UNAVAILABLE"),
        (15, 500, "DATA_LOSS"),
        (16, 401, "UNAUTHENTICATED"),
    ];
    for gateway in both(GatewayConfig::default()).await {
        for (code, http, status) in codes {
            let answer = get(&gateway, &format!("/v1/fail/{code}")).await;
            let error = assert_error(&answer, http, status);
            assert_eq!(error["message"], "as asked – so");
            assert_eq!(answer.header("retry-after"), "");
        }
    }
}

#[tokio::test]
async fn details_are_passed_on_and_retry_info_is_a_header() {
    for gateway in both(GatewayConfig::default()).await {
        for (code, http, retry_after) in [(8, 429, "3"), (14, 503, "3"), (3, 400, "")] {
            let answer = get(&gateway, &format!("/v1/fail/{code}?details=true")).await;
            assert_eq!(answer.status, http);
            assert_eq!(answer.header("retry-after"), retry_after);
            let details = answer.json()["details"].clone();
            let find = |name: &str| {
                let url = format!("type.googleapis.com/google.rpc.{name}");
                let found = details
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(|detail| detail["@type"] == url.as_str());
                found.unwrap_or_else(|| panic!("{name}: {details}")).clone()
            };
            assert_eq!(find("ErrorInfo")["reason"], "TOO_MANY");
            assert_eq!(find("ErrorInfo")["metadata"], json!({"limit": "3"}));
            assert_eq!(
                find("BadRequest")["fieldViolations"][0]["field"],
                "rows[0].loan_id"
            );
            assert_eq!(find("RetryInfo")["retryDelay"], "2.100s");
            assert_eq!(find("RequestInfo")["requestId"], "r-1");
        }
    }
}

#[tokio::test]
async fn faulty_bodies_are_refused_and_the_field_is_named() {
    let gateway = in_process(GatewayConfig::default());
    for (body, part) in [
        ("{", "line 1 column 1"),
        ("{\"count\":1,}", "line 1 column"),
        ("{\n \"count\": x}", "line 2 column 11"),
        ("{} {}", "line 1 column 4"),
        ("nonsense", "line 1"),
        ("{\"price\":NaN}", "line 1"),
        ("{\"price\":Infinity}", "line 1"),
        ("{\"price\":1e999}", "out of range"),
        ("{\"row\":{\"a\":1e999}}", "out of range"),
        ("{\"weight\":1e39}", "weight"),
        ("{\"nope\":1}", "nope: there is no such field"),
        ("{\"detail\":{\"nope\":1}}", "detail.nope"),
        (
            "{\"detail\":{\"further\":[{},{\"note\":5}]}}",
            "detail.further[1].note",
        ),
        ("{\"count\":1.5}", "count"),
        ("{\"count\":2147483648}", "count"),
        ("{\"late\":\"-1\"}", "late"),
        ("{\"sold\":\"yes\"}", "sold"),
        ("{\"kind\":\"BOAT\"}", "BOAT"),
        ("{\"madeAt\":\"yesterday\"}", "madeAt"),
        ("{\"picture\":\"&\"}", "picture"),
        ("{\"tags\":\"x\"}", "tags"),
        ("{\"row\":[1]}", "row"),
        ("{\"person\":\"a\",\"company\":\"b\"}", "owner"),
        ("[]", "fit"),
        ("\"\u{1}\"", "line 1"),
    ] {
        let answer = post(&gateway, "/v1/items:echo", body).await;
        let error = assert_error(&answer, 400, "INVALID_ARGUMENT");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(part), "{body}: {message}");
    }
    let bytes = request("POST", "/v1/items:echo")
        .body(Body::from(b"{\"name\":\"\xff\"}".to_vec()))
        .unwrap();
    assert_error(&send(&gateway, bytes).await, 400, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn a_field_violation_stands_in_the_details() {
    let gateway = in_process(GatewayConfig::default());
    let error = post(&gateway, "/v1/items:echo", r#"{"detail":{"note":5}}"#)
        .await
        .json();
    assert_eq!(
        error["details"][0]["@type"],
        "type.googleapis.com/google.rpc.BadRequest"
    );
    assert_eq!(
        error["details"][0]["fieldViolations"][0]["field"],
        "detail.note"
    );
}

#[tokio::test]
async fn deep_nesting_is_refused_without_recursing() {
    let gateway = in_process(GatewayConfig::default());
    for depth in [31, 100_000] {
        let body = format!("{{\"anyJson\":{}", "[".repeat(depth));
        let error = assert_error(
            &post(&gateway, "/v1/items:echo", &body).await,
            400,
            "INVALID_ARGUMENT",
        );
        assert!(error["message"].as_str().unwrap().contains("30 levels"));
    }
    // What is allowed passes through every decoder on the way.
    let objects = format!("{{\"row\":{}1{}}}", "{\"a\":".repeat(29), "}".repeat(29));
    let lists = format!("{{\"anyJson\":{}{}}}", "[".repeat(29), "]".repeat(29));
    for body in [objects, lists] {
        let answer = post(&gateway, "/v1/items:echo", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

#[tokio::test]
async fn faulty_queries_and_paths_are_refused() {
    let gateway = in_process(GatewayConfig::default());
    for (uri, part) in [
        ("/v1/items/a?nope=1", "nope"),
        ("/v1/items/a?count=x", "count"),
        ("/v1/items/a?count=1&count=2", "more than once"),
        ("/v1/items/a?name=b", "from the path"),
        ("/v1/items/a?detail=b", "message"),
        ("/v1/items/a?detail.nope=b", "detail.nope"),
        ("/v1/items/a?detail.further.note=b", "detail.further.note"),
        ("/v1/items/a?ratings=b", "message"),
        ("/v1/items/a?ratings.x=1", "ratings.x"),
        ("/v1/items/a?kind=BOAT", "KIND_UNSPECIFIED, BOOK, KIND_TOY"),
        ("/v1/items/a?madeAt=now", "madeAt"),
        ("/v1/items/a?row=x", "message"),
        ("/v1/items/a?nickname=%ff", "UTF-8"),
        ("/v1/items/%ff", "name"),
        ("/v1/fail/x", "code"),
    ] {
        let error = assert_error(&get(&gateway, uri).await, 400, "INVALID_ARGUMENT");
        assert!(
            error["message"].as_str().unwrap().contains(part),
            "{uri}: {error}"
        );
    }
    let answer = post(&gateway, "/v1/items:echo?count=1", "{}").await;
    assert_error(&answer, 400, "INVALID_ARGUMENT");
    let body_on_get = request("GET", "/v1/items/a")
        .body(Body::from("{}"))
        .unwrap();
    assert_error(&send(&gateway, body_on_get).await, 400, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn unknown_paths_are_404_and_other_methods_405() {
    let gateway = in_process(GatewayConfig::default());
    for uri in [
        "/v1",
        "/v1/items",
        "/v1/items/",
        "/v1/items/a/b",
        "//v1/items/a",
        "/v1/items/a/",
        "/shop.v1.ShopService/Echo",
    ] {
        assert_error(&get(&gateway, uri).await, 404, "NOT_FOUND");
    }
    assert_error(
        &post(&gateway, "/v1/items/a:typo", "{}").await,
        404,
        "NOT_FOUND",
    );
    let answer = post(&gateway, "/v1/items/a", "{}").await;
    assert_error(&answer, 405, "UNIMPLEMENTED");
    assert_eq!(answer.header("allow"), "GET");
    let answer = get(&gateway, "/v1/items:echo").await;
    assert_error(&answer, 405, "UNIMPLEMENTED");
    assert_eq!(answer.header("allow"), "POST");
    let answer = post(&gateway, "/docs", "").await;
    assert_error(&answer, 405, "UNIMPLEMENTED");
    assert!(answer.header("allow").contains("GET"));
    // A colon that is no verb belongs to the value.
    assert_eq!(get(&gateway, "/v1/items/a:b").await.json()["name"], "a:b");
}

#[tokio::test]
async fn bodies_have_a_bound() {
    let gateway = in_process(GatewayConfig {
        request_bytes_max: 64,
        ..GatewayConfig::default()
    });
    let body = format!("{{\"name\":\"{}\"}}", "x".repeat(64));
    let error = assert_error(
        &post(&gateway, "/v1/items:echo", &body).await,
        413,
        "INVALID_ARGUMENT",
    );
    assert!(error["message"].as_str().unwrap().contains("64 bytes"));
    let announced =
        request("POST", "/v1/items:echo").header("content-length", "99999999999999999999");
    let announced = send(&gateway, announced.body(Body::from("{}")).unwrap()).await;
    assert_eq!(
        announced.status, 200,
        "an unreadable length is the HTTP server's matter"
    );
    let chunks = tokio_stream::iter(std::iter::repeat_n(
        Ok::<_, std::convert::Infallible>("          "),
        10,
    ));
    let streamed = request("POST", "/v1/items:echo")
        .body(Body::from_stream(chunks))
        .unwrap();
    assert_error(&send(&gateway, streamed).await, 413, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn answers_have_a_bound() {
    for gateway in both(GatewayConfig {
        response_bytes_max: 64,
        ..GatewayConfig::default()
    })
    .await
    {
        let body = format!("{{\"name\":\"{}\"}}", "x".repeat(64));
        let answer = post(&gateway, "/v1/items:echo", &body).await;
        assert_error(&answer, 500, "INTERNAL");
    }
}

#[tokio::test]
async fn the_deadline_is_the_callers_or_the_configured_one() {
    let config = GatewayConfig {
        request_timeout: Duration::from_millis(20),
        ..GatewayConfig::default()
    };
    for gateway in both(config).await {
        let answer = post(&gateway, "/v1/hang", "{}").await;
        assert_error(&answer, 504, "DEADLINE_EXCEEDED");
    }
    for gateway in both(GatewayConfig::default()).await {
        for timeout in ["20m", "0S"] {
            let request = request("POST", "/v1/hang")
                .header("grpc-timeout", timeout)
                .body(Body::empty())
                .unwrap();
            assert_error(&send(&gateway, request).await, 504, "DEADLINE_EXCEEDED");
        }
        let request = request("POST", "/v1/hang")
            .header("grpc-timeout", "soon")
            .body(Body::empty())
            .unwrap();
        assert_error(&send(&gateway, request).await, 400, "INVALID_ARGUMENT");
    }
}

#[tokio::test]
async fn a_body_that_never_ends_meets_the_deadline() {
    let gateway = in_process(GatewayConfig {
        request_timeout: Duration::from_millis(20),
        ..GatewayConfig::default()
    });
    let endless =
        Body::from_stream(futures_util::stream::pending::<Result<&str, std::io::Error>>());
    let answer = send(
        &gateway,
        request("POST", "/v1/items:echo").body(endless).unwrap(),
    )
    .await;
    assert_error(&answer, 504, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn one_request_too_many_is_429() {
    let gateway = in_process(GatewayConfig {
        requests_max: 1,
        ..GatewayConfig::default()
    });
    let (first, second) = tokio::join!(
        async {
            let request = request("POST", "/v1/hang")
                .header("grpc-timeout", "100m")
                .body(Body::empty())
                .unwrap();
            send(&gateway, request).await
        },
        async {
            tokio::task::yield_now().await;
            get(&gateway, "/v1/items/a").await
        },
    );
    assert_error(&first, 504, "DEADLINE_EXCEEDED");
    assert_error(&second, 429, "RESOURCE_EXHAUSTED");
    assert_eq!(second.header("retry-after"), "1");
    assert_eq!(get(&gateway, "/v1/items/a").await.status, 200);
}
