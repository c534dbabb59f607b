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

const EMBEDDINGS: &str = r#"
    project = "rest"
    [[entities]]
    name = "item"
    join_keys = [{ name = "item_id", type = "int64" }]
    [[feature_views]]
    name = "item_vectors"
    entity = "item"
    features = [
        { name = "embedding", type = "list<float>" },
        { name = "seen", type = "timestamp" },
        { name = "digest", type = "bytes" },
        { name = "score", type = "double" },
    ]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn typed_columns_go_there_and_back_as_json() {
    let running = Running::start().await;
    let applied = running
        .post(
            "/v1/definitions:apply",
            json!({ "definitions": EMBEDDINGS }),
        )
        .await;
    assert_eq!(applied.1["changes"][0]["action"], "CREATE");
    let columns = json!([
        {"name": "item_id", "type": "INT64", "int64s": ["9007199254740993", 2, "3"]},
        {"name": "embedding", "floats": [0.1, "NaN", -0.0], "lengths": [2, 1, 0]},
        {"name": "seen", "timestamps": ["-1", 0, 0], "nullRows": [1, 2]},
        {"name": "digest", "bytes": ["AP8=", "", ""], "absentRows": [1, 2]},
        {"name": "score", "doubles": ["Infinity", "-Infinity", 5e-324]},
    ]);
    let path = "/v1/featureViews/item_vectors:write";
    let (status, answer) = running.post(path, json!({ "columns": columns })).await;
    assert_eq!(
        (status, &answer),
        (200, &json!({"written": "3", "late": "0"}))
    );

    let read = json!({
        "features": [
            "item_vectors:embedding", "item_vectors:seen",
            "item_vectors:digest", "item_vectors:score",
        ],
        "entityColumns": [{"name": "item_id", "int64s": ["9007199254740993", "2", "3"]}],
        "maxAge": "30.5s",
        "format": "PACKED",
    });
    let (status, answer) = running.post("/v1/features:get", read.clone()).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (&answer["columns"], &answer["rows"]),
        (&json!([]), &json!([]))
    );
    let packed = |index: usize| &answer["packedColumns"][index];
    assert_eq!(packed(0)["values"]["type"], "FLOAT_LIST");
    assert_eq!(packed(0)["values"]["floats"], json!([0.1, "NaN", -0.0]));
    assert_eq!(packed(0)["values"]["lengths"], json!([2, 1, 0]));
    assert_eq!(packed(1)["values"]["timestamps"], json!(["-1", "0", "0"]));
    assert_eq!(packed(1)["statuses"], json!(["PRESENT", "NULL", "NULL"]));
    assert_eq!(packed(2)["values"]["bytes"], json!(["AP8=", "", ""]));
    assert_eq!(
        packed(2)["statuses"],
        json!(["PRESENT", "NOT_FOUND", "NOT_FOUND"])
    );
    assert_eq!(packed(2)["eventTimestamps"][1], "0");
    assert_eq!(
        packed(3)["values"]["doubles"],
        json!(["Infinity", "-Infinity", 5e-324])
    );
    assert_eq!(packed(3)["ageBound"], "0s");

    let mut rows = read;
    rows["format"] = json!("ROWS");
    let (_, answer) = running.post("/v1/features:get", rows).await;
    let row = &answer["rows"][0];
    assert_eq!(row["entity"], json!({"item_id": "9007199254740993"}));
    assert_eq!(row["values"]["item_vectors:embedding"], json!([0.1, "NaN"]));
    assert_eq!(
        row["values"]["item_vectors:seen"],
        "1969-12-31T23:59:59.999999Z"
    );
    assert_eq!(
        answer["rows"][1]["statuses"]["item_vectors:digest"],
        "NOT_FOUND"
    );
    assert_eq!(
        answer["rows"][1]["eventTimestamps"]
            .as_object()
            .unwrap()
            .len(),
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_has_a_route_but_the_streams_both_ways() {
    let running = Running::start().await;
    let (_, document) = running.get("/openapi.json").await;
    let operations: Vec<&str> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|path| path.as_object().unwrap().values())
        .filter_map(|operation| operation["operationId"].as_str())
        .collect();
    let pool = prost_reflect::DescriptorPool::decode(ferrocast::grpc::DESCRIPTOR_SET).unwrap();
    let mut without = Vec::new();
    for rpc in pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
    {
        if !operations.iter().any(|id| id.contains(rpc.name())) {
            without.push(rpc.name().to_owned());
        }
    }
    assert_eq!(without, ["StreamWriteFeatures", "StreamPredict"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_is_told_line_by_line() {
    let running = Running::start().await;
    let request = running
        .http
        .post(running.url("/v1/featureViews:materialize"))
        .json(&json!({"views": ["applicant"], "force": true}));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = response.text().await.unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = lines.last().unwrap();
    assert_eq!(last["isDone"], true, "{text}");
    assert_eq!(last["rowsRead"], "9857");
    assert_eq!(last["result"], json!({"written": "0", "late": "9857"}));
    assert!(last["watermark"].is_string());

    // What is wrong before the first message has the status of its own.
    let unknown = json!({"views": ["nope"]});
    let (status, answer) = running.post("/v1/featureViews:materialize", unknown).await;
    assert_eq!((status, &answer["status"]), (404, &json!("NOT_FOUND")));

    let (_, view) = running
        .get("/v1/featureViews/applicant?statistics=true")
        .await;
    assert_eq!(view["statistics"]["rows"], "9857");
    let (_, view) = running.get("/v1/featureViews/applicant").await;
    assert_eq!(view["statistics"], serde_json::Value::Null);
}
