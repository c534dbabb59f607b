//! Definitions over the wire, freshness, and what is written between.

use ferrocast::{features::Timestamp, grpc::pb};
use serde_json::{Value as Json, json};
use tonic::Code;

use crate::support::{Running, apply, object};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_defined_filled_and_read_without_a_restart() {
    let running = Running::start().await;
    let mut client = running.features().await;

    let dry_run = pb::ApplyDefinitionsRequest {
        dry_run: true,
        ..apply(DEFINITIONS)
    };
    let planned = client.apply_definitions(dry_run).await;
    let planned = planned.unwrap().into_inner();
    assert!(!planned.applied);
    let kinds: Vec<&str> = planned.changes.iter().map(|c| c.kind.as_str()).collect();
    assert_eq!(kinds, ["entity", "feature_view"]);
    let view = pb::GetFeatureViewRequest {
        view: "Footfall".into(),
        ..Default::default()
    };
    let missing = client.get_feature_view(view.clone()).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);

    client.apply_definitions(apply(DEFINITIONS)).await.unwrap();
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
        ..Default::default()
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
    client.apply_definitions(apply(DEFINITIONS)).await.unwrap();
    let row = object(&json!({"country": "NL", "shop_id": 1, "visitors": 2}));
    let write = pb::WriteFeaturesRequest {
        view: "Footfall".into(),
        rows: vec![row],
        ..Default::default()
    };
    client.write_features(write).await.unwrap();

    let wider = DEFINITIONS.replace(
        "features = [",
        "features = [{ name = \"staff\", type = \"int32\" },",
    );
    let changed = client.apply_definitions(apply(&wider)).await.unwrap();
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
    assert_eq!(answer["columns"][1]["statuses"], json!(["NOT_FOUND"]));

    let refused = client
        .apply_definitions(apply(DEFINITIONS))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("staff"), "{}", refused.message());
}

const SHOPS: &str = r#"
    project = "shops"
    [[entities]]
    name = "shop"
    join_keys = [{ name = "shop_id", type = "int64" }]
    [[entities]]
    name = "city"
    join_keys = [{ name = "city", type = "string" }]
    [[feature_views]]
    name = "footfall"
    entity = "shop"
    ttl = "30d"
    history = true
    features = [{ name = "visitors", type = "int64" }, { name = "mood", type = "string" }]
    [[feature_views]]
    name = "weather"
    entity = "city"
    features = [{ name = "rain", type = "double" }]
    [[feature_views]]
    name = "stock"
    entity = "shop"
    features = [{ name = "items", type = "int32" }]
    [[feature_views]]
    name = "ledger"
    entity = "shop"
    table = { name = "their_ledger", columns = { turnover = "amount" } }
    features = [{ name = "turnover", type = "double" }]
    [[feature_services]]
    name = "demand"
    version = 1
    description = "What a shop needs."
    features = ["footfall:visitors"]
    [[feature_services]]
    name = "demand"
    version = 2
    features = ["weather:rain", "footfall:visitors", "stock:items"]
"#;

/// A server with the shops defined, and somebody else's table in its database.
async fn shops() -> Running {
    let running = Running::start().await;
    rusqlite::Connection::open(running.store_file())
        .unwrap()
        .execute_batch(
            "CREATE TABLE their_ledger (shop_id INTEGER, amount REAL, event_timestamp INTEGER);
             INSERT INTO their_ledger VALUES (1, 12.5, 1577836800000000)",
        )
        .unwrap();
    let mut client = running.features().await;
    client.apply_definitions(apply(SHOPS)).await.unwrap();
    running
}

impl Running {
    async fn write(&self, view: &str, row: Json) -> Json {
        let path = format!("/v1/featureViews/{view}:write");
        let (status, answer) = self.post(&path, json!({ "rows": [row] })).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    async fn read(&self, request: Json) -> Json {
        let (status, answer) = self.post("/v1/features:get", request).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_reads_several_entities_at_once_in_its_own_order() {
    let running = shops().await;
    running
        .write("footfall", json!({"shop_id": 1, "visitors": 7}))
        .await;
    running
        .write("weather", json!({"city": "Delft", "rain": 0.5}))
        .await;
    let entities = json!([{"shop_id": 1, "city": "Delft"}, {"shop_id": "2", "city": "Gouda"}]);
    for (service, version) in [("demand", "demand@2"), ("demand@2", "demand@2")] {
        let request = json!({"featureService": service, "entities": entities});
        let answer = running.read(request).await;
        assert_eq!(answer["featureService"], version);
        let columns = answer["columns"].as_array().unwrap();
        let column = |index: usize| (&columns[index]["feature"], &columns[index]["values"]);
        assert_eq!(column(0), (&json!("weather:rain"), &json!([0.5, null])));
        assert_eq!(column(1), (&json!("footfall:visitors"), &json!([7, null])));
        assert_eq!(column(2), (&json!("stock:items"), &json!([null, null])));
    }
    let first = json!({"featureService": "demand@1", "entities": [{"shop_id": 1}]});
    let answer = running.read(first).await;
    assert_eq!(answer["columns"].as_array().unwrap().len(), 1);

    let (_, listed) = running.get("/v1/featureServices").await;
    let all = listed["featureServices"].as_array().unwrap().iter();
    let listed: Vec<&Json> = all.filter(|service| service["name"] == "demand").collect();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["description"], "What a shop needs.");
    assert_eq!(listed[1]["version"], 2);
    assert_eq!(listed[1]["project"], "shops");
    assert_eq!(listed[1]["features"][0], "weather:rain");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_asks_for_fresher_values_than_the_view_does() {
    let running = shops().await;
    let now = Timestamp::now().micros();
    let ago = |seconds: i64| Timestamp::from_micros(now - seconds * 1_000_000).unwrap();
    for (shop, seconds) in [(1, 60), (2, 7_200), (3, 60 * 86_400)] {
        let row = json!({
            "shop_id": shop, "visitors": 1, "eventTimestamp": ago(seconds).to_string()
        });
        running.write("footfall", row).await;
    }
    let statuses = async |max_age: Json| {
        let mut request = json!({
            "features": ["footfall:visitors"],
            "entities": [{"shop_id": 1}, {"shop_id": 2}, {"shop_id": 3}],
        });
        request["maxAge"] = max_age;
        running.read(request).await["columns"][0]["statuses"].clone()
    };
    let (fresh, old) = ("PRESENT", "OUTSIDE_TTL");
    assert_eq!(statuses(Json::Null).await, json!([fresh, fresh, old]));
    assert_eq!(statuses(json!("3600s")).await, json!([fresh, old, old]));
    assert_eq!(statuses(json!("0s")).await, json!([old, old, old]));
    // The view's own TTL stays.
    assert_eq!(
        statuses(json!("315576000000s")).await,
        json!([fresh, fresh, old])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_row_leaves_the_rest_alone_and_null_takes_away() {
    let running = shops().await;
    let at = |day: u32| format!("2026-01-0{day}T00:00:00Z");
    let write = async |row: Json| running.write("footfall", row).await;
    write(json!({"shop_id": 1, "visitors": 7, "mood": "good", "eventTimestamp": at(1)})).await;
    write(json!({"shop_id": 1, "mood": "bad", "eventTimestamp": at(3)})).await;
    let between = json!({"shop_id": 1, "visitors": 8, "mood": "so so", "eventTimestamp": at(2),
        "createdAt": at(2)});
    assert_eq!(
        write(between.clone()).await,
        json!({"written": "1", "late": "0"})
    );
    assert_eq!(write(between).await, json!({"written": "0", "late": "1"}));
    let request = json!({
        "features": ["footfall:visitors", "footfall:mood"],
        "entities": [{"shop_id": 1}],
        "format": "ROWS",
        "maxAge": "300000000s",
    });
    let row = async || running.read(request.clone()).await["rows"][0].clone();
    let (visitors, mood) = ("footfall:visitors", "footfall:mood");
    let found = row().await;
    assert_eq!(found["entity"], json!({"shop_id": 1}));
    // Both are older than the view's 30 days: told with their own times, and withheld.
    let times = &found["eventTimestamps"];
    assert_eq!(
        (&times[visitors], &times[mood]),
        (&json!(at(2)), &json!(at(3)))
    );
    assert_eq!(found["statuses"][visitors], "OUTSIDE_TTL");

    write(json!({"shop_id": 1, "mood": null})).await;
    let found = row().await;
    assert_eq!(found["statuses"][mood], "NULL");
    assert_eq!(found["statuses"][visitors], "OUTSIDE_TTL");
    assert_eq!(found["values"][mood], Json::Null);
    write(json!({"shop_id": 2, "mood": "new"})).await;
    let request = json!({"features": [visitors], "entities": [{"shop_id": 2}]});
    let answer = running.read(request).await;
    assert_eq!(answer["columns"][0]["statuses"], json!(["NOT_FOUND"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_is_deleted_everywhere_but_in_somebody_elses_table() {
    let running = shops().await;
    running
        .write("footfall", json!({"shop_id": 1, "visitors": 7}))
        .await;
    running
        .write("footfall", json!({"shop_id": 2, "visitors": 8}))
        .await;
    running
        .write("stock", json!({"shop_id": 1, "items": 3}))
        .await;
    let delete = async |key: Json| {
        let (status, answer) = running
            .post("/v1/entities/shop:delete", json!({ "key": key }))
            .await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let answer = delete(json!({"shop_id": 1})).await;
    assert_eq!(answer, json!({"views": "2", "skippedViews": ["ledger"]}));
    let answer = delete(json!({"shop_id": "1"})).await;
    assert_eq!(answer["views"], "0");
    let request = json!({
        "features": ["footfall:visitors", "stock:items", "ledger:turnover"],
        "entities": [{"shop_id": 1}, {"shop_id": 2}],
    });
    let answer = running.read(request).await;
    let values = |index: usize| &answer["columns"][index]["values"];
    assert_eq!(values(0), &json!([null, 8]));
    assert_eq!(values(1), &json!([null, null]));
    assert_eq!(values(2), &json!([12.5, null]));

    // What cannot be stored is not there, neither to be read nor to be deleted.
    let key = json!({"city": "a\u{0}b"});
    let path = "/v1/entities/city:delete";
    let (status, answer) = running.post(path, json!({ "key": key })).await;
    assert_eq!((status, &answer["views"]), (200, &json!("0")));
    let request = json!({"features": ["weather:rain"], "entities": [key]});
    let answer = running.read(request).await;
    assert_eq!(answer["columns"][0]["statuses"], json!(["NOT_FOUND"]));

    // However old, what is written afterwards makes it anew.
    let old = json!({"shop_id": 1, "items": 1, "eventTimestamp": "1999-01-01T00:00:00Z"});
    assert_eq!(running.write("stock", old).await["written"], "1");
    let refused = running
        .post(
            "/v1/featureViews/ledger:write",
            json!({"rows": [{"shop_id": 1, "turnover": 1}]}),
        )
        .await;
    assert_eq!(
        (refused.0, &refused.1["status"]),
        (400, &json!("FAILED_PRECONDITION"))
    );
    assert!(
        refused.1["message"]
            .as_str()
            .unwrap()
            .contains("their_ledger")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_file_no_longer_defines_goes_where_its_loss_is_allowed() {
    let running = shops().await;
    let mut client = running.features().await;
    running
        .write("stock", json!({"shop_id": 1, "items": 3}))
        .await;
    let without_stock = SHOPS
        .replace(
            "\"footfall:visitors\", \"stock:items\"",
            "\"footfall:visitors\"",
        )
        .replace("version = 2", "version = 3");
    let (before, after) = without_stock.split_once("name = \"stock\"").unwrap();
    let before = before.trim_end().trim_end_matches("[[feature_views]]");
    let after = after.split_once("[[feature_views]]").unwrap().1;
    let without_stock = format!("{before}[[feature_views]]{after}");

    let refused = client
        .apply_definitions(apply(&without_stock))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("demand@2"), "{refused:?}");
    let dry_run = pb::ApplyDefinitionsRequest {
        dry_run: true,
        ..apply(&without_stock)
    };
    let planned = client
        .apply_definitions(dry_run)
        .await
        .unwrap()
        .into_inner();
    let shown = planned.changes.iter().map(|change| {
        let has_losses = !change.losses.is_empty();
        (change.action(), change.name.as_str(), has_losses)
    });
    use pb::definition_change::Action;
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            (Action::Drop, "demand@2", true),
            (Action::Drop, "stock", true),
            (Action::Create, "demand@3", false),
        ]
    );
    let allowed = pb::ApplyDefinitionsRequest {
        allow_data_loss: true,
        ..apply(&without_stock)
    };
    let done = client
        .apply_definitions(allowed)
        .await
        .unwrap()
        .into_inner();
    assert!(done.applied);
    let (status, _) = running.get("/v1/featureViews/stock").await;
    assert_eq!(status, 404);
    let (status, _) = running
        .post(
            "/v1/features:get",
            json!({"featureService": "demand@2", "entities": [{}]}),
        )
        .await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_described_with_what_was_loaded() {
    let running = shops().await;
    let (_, footfall) = running.get("/v1/featureViews/footfall").await;
    assert_eq!(footfall["history"], true);
    assert_eq!(footfall["materializations"], json!([]));
    assert_eq!(footfall.get("watermark"), None);
    let (_, ledger) = running.get("/v1/featureViews/ledger").await;
    assert_eq!(ledger["table"], "their_ledger");
    let (_, applicant) = running.get("/v1/featureViews/applicant").await;
    let record = &applicant["materializations"][0];
    assert_eq!(record["source"], applicant["source"]);
    assert_eq!(record["result"], json!({"written": "9857", "late": "0"}));
    let watermark = applicant["watermark"].as_str().unwrap();
    assert!(watermark.starts_with("2016-03-31"), "{watermark}");
    assert_eq!(record["watermark"], applicant["watermark"]);
    assert!(record["finishedAt"].as_str().unwrap() > "2026");
    let (_, listed) = running.get("/v1/featureViews").await;
    assert_eq!(listed["featureViews"][0]["materializations"], json!([]));
}
