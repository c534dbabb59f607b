//! Definitions over the wire, freshness, and what is written between.

use ferrocast::grpc::pb;
use serde_json::json;
use tonic::Code;

use crate::support::{Running, object};

const DEFINITIONS: &str = r#"
    project = "demo"
    [[entities]]
    name = "shop"
    join_keys = [{ name = "country", type = "string" }, { name = "shop_id", type = "int64" }]
    [[feature_views]]
    name = "Footfall"
    entity = "shop"
    ttl = "1h"
    features = [
        { name = "visitors", type = "int64" },
        { name = "select", type = "float" },
        { name = "opened", type = "timestamp" },
    ]
"#;

fn apply(definitions: &str, dry_run: bool) -> pb::ApplyDefinitionsRequest {
    pb::ApplyDefinitionsRequest {
        definitions: definitions.into(),
        dry_run,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_defined_filled_and_read_without_a_restart() {
    let running = Running::start().await;
    let mut client = running.features().await;

    let planned = client.apply_definitions(apply(DEFINITIONS, true)).await;
    let planned = planned.unwrap().into_inner();
    assert!(!planned.applied);
    let kinds: Vec<&str> = planned.changes.iter().map(|c| c.kind.as_str()).collect();
    assert_eq!(kinds, ["entity", "feature_view"]);
    let view = pb::GetFeatureViewRequest {
        view: "Footfall".into(),
    };
    let missing = client.get_feature_view(view.clone()).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);

    client
        .apply_definitions(apply(DEFINITIONS, false))
        .await
        .unwrap();
    let described = client.get_feature_view(view).await.unwrap().into_inner();
    assert_eq!(described.ttl.unwrap().seconds, 3_600);

    let rows = vec![
        object(&json!({
            "country": "NL", "shop_id": "9007199254740993", "visitors": "9007199254740993",
            "select": 0.1, "opened": "1999-12-31T23:59:59.999999Z"
        })),
        object(&json!({
            "country": "NL", "shop_id": 1, "visitors": 2,
            "eventTimestamp": "2020-01-01T00:00:00Z"
        })),
    ];
    let write = pb::WriteFeaturesRequest {
        view: "Footfall".into(),
        rows,
    };
    let written = client.write_features(write).await.unwrap().into_inner();
    assert_eq!((written.written, written.late), (2, 0));

    let (status, answer) = running
        .post(
            "/v1/features:get",
            json!({
                "features": ["Footfall:visitors", "Footfall:select", "Footfall:opened"],
                "entities": [
                    {"country": "NL", "shop_id": "9007199254740993"},
                    {"country": "NL", "shop_id": 1},
                    {"country": "BE", "shop_id": 1},
                ],
            }),
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    let columns = &answer["columns"];
    assert_eq!(
        columns[0]["values"],
        json!(["9007199254740993", null, null])
    );
    assert_eq!(
        columns[0]["statuses"],
        json!(["PRESENT", "OUTSIDE_TTL", "NOT_FOUND"])
    );
    assert_eq!(columns[0]["eventTimestamps"][1], "2020-01-01T00:00:00Z");
    assert_eq!(columns[0]["eventTimestamps"][2], "1970-01-01T00:00:00Z");
    assert_eq!(columns[1]["values"][0], json!(0.1));
    assert_eq!(columns[2]["values"][0], "1999-12-31T23:59:59.999999Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_feature_keeps_the_rows_and_a_loss_is_refused() {
    let running = Running::start().await;
    let mut client = running.features().await;
    client
        .apply_definitions(apply(DEFINITIONS, false))
        .await
        .unwrap();
    let row = object(&json!({"country": "NL", "shop_id": 1, "visitors": 2}));
    let write = pb::WriteFeaturesRequest {
        view: "Footfall".into(),
        rows: vec![row],
    };
    client.write_features(write).await.unwrap();

    let wider = DEFINITIONS.replace(
        "features = [",
        "features = [{ name = \"staff\", type = \"int32\" },",
    );
    let changed = client
        .apply_definitions(apply(&wider, false))
        .await
        .unwrap();
    assert_eq!(changed.into_inner().changes[0].details, ["add staff int32"]);
    let (_, answer) = running
        .post(
            "/v1/features:get",
            json!({
                "features": ["Footfall:visitors", "Footfall:staff"],
                "entities": [{"country": "NL", "shop_id": 1}],
            }),
        )
        .await;
    assert_eq!(answer["columns"][0]["values"], json!([2]));
    assert_eq!(answer["columns"][1]["statuses"], json!(["NULL"]));

    let refused = client
        .apply_definitions(apply(DEFINITIONS, false))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("staff"), "{}", refused.message());
}
