//! Paths, queries and bodies into messages, and back.

use axum::body::Body;
use ferrocast_gateway::{Alias, GatewayConfig};
use serde_json::json;

use crate::shop::{both, get, in_process, post, request, send};

#[tokio::test]
async fn a_body_comes_back_as_it_was_typed() {
    let body = json!({
        "name": "a", "count": 3, "total": "9007199254740993", "late": "0", "price": 0.5, "weight": 0.1, "sold": true,
        "picture": "/+8=", "kind": "BOOK", "tags": ["x"], "sizes": [1, 2], "ratings": {"b": 1, "a": 0.9169},
        "detail": {"note": "n", "kind": "KIND_UNSPECIFIED", "further": []},
        "madeAt": "2016-01-04T00:00:00Z", "age": "1.500s", "limit": "7",
        "row": {"annual_inc": 52000, "term": "36", "none": null, "deep": {"list": [1, [true]]}},
        "values": [52000, null, "s", 0.25], "nickname": "", "company": "c", "anyJson": null,
    });
    for gateway in both(GatewayConfig::default()).await {
        let answer = post(&gateway, "/v1/items/a:echo", &body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.json(), body);
        assert!(
            answer.body.contains("52000,") && !answer.body.contains("52000.0"),
            "{}",
            answer.body
        );
        assert!(
            answer.body.contains(r#""ratings":{"a":0.9169,"b":1}"#),
            "{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn defaults_are_written_and_what_is_unset_is_not() {
    let gateway = in_process(GatewayConfig::default());
    let answer = post(&gateway, "/v1/items:echo", "").await;
    let expected = json!({
        "name": "", "count": 0, "total": "0", "late": "0", "price": 0, "weight": 0, "sold": false, "picture": "",
        "kind": "KIND_UNSPECIFIED", "tags": [], "sizes": [], "values": [],
    });
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn proto_names_and_numbers_of_enums_are_read_too() {
    let gateway = in_process(GatewayConfig::default());
    let body = r#"{"made_at":"2016-01-04T01:00:00+01:00","kind":2,"total":5,"count":"6","price":"NaN","sizes":[1e3]}"#;
    let answer = post(&gateway, "/v1/items:echo", body).await.json();
    assert_eq!(answer["madeAt"], "2016-01-04T00:00:00Z");
    assert_eq!(answer["kind"], "KIND_TOY");
    assert_eq!(answer["total"], "5");
    assert_eq!(answer["count"], 6);
    assert_eq!(answer["price"], "NaN");
    assert_eq!(answer["sizes"], json!([1000]));
}

#[tokio::test]
async fn queries_fill_what_the_path_does_not() {
    for gateway in both(GatewayConfig::default()).await {
        let uri = "/v1/items/a%20b%2Fc?count=3&tags=x&tags=y+z&sizes=1&sizes=-2&detail.note=n%26m&kind=BOOK&made_at=\
                   2016-01-04T00:00:00Z&age=2s&limit=9&sold=true&detail.kind=2&weight=1.5&picture=_-8&";
        let answer = get(&gateway, uri).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let item = answer.json();
        assert_eq!(item["name"], "a b/c");
        assert_eq!(item["count"], 3);
        assert_eq!(item["tags"], json!(["x", "y z"]));
        assert_eq!(item["sizes"], json!([1, -2]));
        assert_eq!(
            item["detail"],
            json!({"note": "n&m", "kind": "KIND_TOY", "further": []})
        );
        assert_eq!(item["madeAt"], "2016-01-04T00:00:00Z");
        assert_eq!(item["age"], "2s");
        assert_eq!(item["limit"], "9");
        assert_eq!(item["weight"], 1.5);
        assert_eq!(item["picture"], "/+8=");
    }
}

#[tokio::test]
async fn a_body_can_fill_one_field_and_an_answer_be_one() {
    let gateway = in_process(GatewayConfig::default());
    let put = request("PUT", "/v1/shelves/shelves/1/items/2%2F3?count=4")
        .body(Body::from(r#" {"note":"n"} "#))
        .unwrap();
    let answer = send(&gateway, put).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(
        answer.json(),
        json!({"note": "n", "kind": "KIND_UNSPECIFIED", "further": []})
    );
    let put = request("PUT", "/v1/shelves/shelves/1/items/2")
        .body(Body::from(r#"{},"count":1"#))
        .unwrap();
    assert_eq!(send(&gateway, put).await.status, 400);
}

#[tokio::test]
async fn custom_methods_and_nested_variables_work() {
    let gateway = in_process(GatewayConfig::default());
    let answer = send(
        &gateway,
        request("REPORT", "/v1/nested/hi")
            .body(Body::empty())
            .unwrap(),
    )
    .await;
    assert_eq!(answer.json()["detail"]["note"], "hi");
}

#[tokio::test]
async fn a_field_in_path_and_body_must_agree() {
    let gateway = in_process(GatewayConfig::default());
    assert_eq!(
        post(&gateway, "/v1/items/a:echo", r#"{"name":"a"}"#)
            .await
            .status,
        200
    );
    let answer = post(&gateway, "/v1/items/a:echo", r#"{"name":"b"}"#).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("name"), "{}", answer.body);
}

#[tokio::test]
async fn head_is_answered_as_get() {
    let gateway = in_process(GatewayConfig::default());
    let answer = send(
        &gateway,
        request("HEAD", "/v1/items/a").body(Body::empty()).unwrap(),
    )
    .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn content_types_of_json_and_of_curl_are_taken() {
    let gateway = in_process(GatewayConfig::default());
    for (content_type, body, status) in [
        ("application/json; charset=utf-8", "{}", 200),
        ("application/vnd.x+json", "{}", 200),
        ("application/x-www-form-urlencoded", " {\"count\":1}", 200),
        ("application/x-www-form-urlencoded", "a=b", 400),
        ("application/x-www-form-urlencoded", "{\"count\":", 400),
        ("text/plain", "{}", 415),
        ("text/plain", "", 200),
        ("application/grpc", "{}", 415),
    ] {
        let request = request("POST", "/v1/items:echo").header("content-type", content_type);
        let answer = send(&gateway, request.body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.status, status, "{content_type} {body}");
    }
}

#[tokio::test]
async fn aliases_lead_to_routes() {
    let config = GatewayConfig {
        aliases: vec![
            "POST /old -> POST /v1/items/a:echo".parse().unwrap(),
            "GET /old/{who} -> POST /v1/items/{who}:echo -> {\"tags\":[\"{who}\"],\"count\":2}"
                .parse()
                .unwrap(),
            Alias {
                method: "DELETE".to_owned(),
                path: "/old/{who}".to_owned(),
                target_method: "GET".to_owned(),
                target_path: "/v1/items/{who}".to_owned(),
                body: None,
            },
        ],
        ..GatewayConfig::default()
    };
    let gateway = in_process(config);
    let answer = post(&gateway, "/old", r#"{"count":7}"#).await.json();
    assert_eq!(
        (&answer["name"], &answer["count"]),
        (&json!("a"), &json!(7))
    );
    let answer = get(&gateway, "/old/x%20%22y").await.json();
    assert_eq!(
        (&answer["name"], &answer["tags"]),
        (&json!("x \"y"), &json!(["x \"y"]))
    );
    let answer = send(
        &gateway,
        request("DELETE", "/old/z?count=1")
            .body(Body::empty())
            .unwrap(),
    )
    .await
    .json();
    assert_eq!(
        (&answer["name"], &answer["count"]),
        (&json!("z"), &json!(1))
    );
    let answer = send(
        &gateway,
        request("PUT", "/old/z").body(Body::empty()).unwrap(),
    )
    .await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("allow")),
        (405, "DELETE, GET")
    );
}
