//! A TTL that counts only some days, asked of a running server: reads, statistics and training sets agree.

use arrow_array::{Array, RecordBatch, cast::AsArray, types::Int64Type};
use ferrocast::{features::Timestamp, grpc::pb};
use serde_json::{Value as Json, json};

use crate::{
    historical::write_spine,
    support::{Running, apply, historical_program, sqlite_url},
};

/// New York's trading days, with two days of a storm, and beside it every day.
const DEFINITIONS: &str = r#"
    project = "trading"
    [[entities]]
    name = "ticker"
    join_keys = [{ name = "shop_id", type = "int64" }]
    [[feature_views]]
    name = "traded"
    entity = "ticker"
    ttl = "1d"
    ttl_calendar = { time_zone = "America/New_York", weekdays_off = ["sunday", "saturday"], days_off = [
        "2012-10-30", "2012-10-29",
    ] }
    history = true
    features = [{ name = "volume", type = "int64" }]
    [[feature_views]]
    name = "plain"
    entity = "ticker"
    ttl = "1d"
    history = true
    features = [{ name = "turnover", type = "int64" }]
"#;

const DAY: i64 = 86_400_000_000;

/// A server whose views have a row of each of some moments, an entity each.
async fn traded(definitions: &str, moments: &[i64]) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let (url, program) = (
        sqlite_url(dir.path()),
        historical_program().display().to_string(),
    );
    let running = Running::on(&url, &[("historical.program", &program)], dir).await;
    let mut client = running.features().await;
    client.apply_definitions(apply(definitions)).await.unwrap();
    let row = |(key, at): (usize, &i64)| json!({"shop_id": key, "volume": key, "turnover": key, "eventTimestamp": shown(*at)});
    for (view, other) in [("traded", "turnover"), ("plain", "volume")] {
        let mut rows: Vec<Json> = moments.iter().enumerate().map(row).collect();
        for row in &mut rows {
            row.as_object_mut().unwrap().remove(other);
        }
        let path = format!("/v1/featureViews/{view}:write");
        let (status, answer) = running.post(&path, json!({ "rows": rows })).await;
        assert_eq!(status, 200, "{answer}");
    }
    running
}

fn shown(micros: i64) -> String {
    Timestamp::from_micros(micros).unwrap().to_string()
}

fn micros(moment: &str) -> i64 {
    Timestamp::parse(moment).unwrap().micros()
}

/// The statuses of an entity's two features.
async fn statuses(running: &Running, key: usize, more: Json) -> (String, String) {
    let mut request = json!({
        "features": ["traded:volume", "plain:turnover"],
        "entities": [{"shop_id": key}],
    });
    let more = more.as_object().unwrap().clone();
    request.as_object_mut().unwrap().extend(more);
    let (status, answer) = running.post("/v1/features:get", request).await;
    assert_eq!(status, 200, "{answer}");
    let of = |column: usize| answer["columns"][column]["statuses"][0].as_str();
    (of(0).unwrap().to_owned(), of(1).unwrap().to_owned())
}

fn told(is_fresh: bool) -> &'static str {
    if is_fresh { "PRESENT" } else { "OUTSIDE_TTL" }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_is_served_until_the_next_one_and_not_longer() {
    // Closes of a Friday, the Friday before the storm, a Monday, and the Friday before clocks change.
    let closes = [
        ("2012-09-14T20:00:00Z", "2012-09-17T20:00:00Z"),
        ("2012-10-26T20:00:00Z", "2012-10-31T20:00:00Z"),
        ("2012-09-17T20:00:00Z", "2012-09-18T20:00:00Z"),
        ("2012-11-02T20:00:00Z", "2012-11-05T21:00:00Z"),
    ];
    let moments = closes.map(|(close, _)| micros(close));
    let running = traded(DEFINITIONS, &moments).await;
    for (key, (close, next)) in closes.into_iter().enumerate() {
        let asked = async |at: i64| statuses(&running, key, json!({"asOf": shown(at)})).await;
        let (close, next) = (micros(close), micros(next));
        assert_eq!(asked(next).await.0, "PRESENT", "{key}");
        assert_eq!(asked(next + 1).await.0, "OUTSIDE_TTL", "{key}");
        assert_eq!(asked(close + DAY).await.1, "PRESENT", "{key}");
        assert_eq!(asked(close + DAY + 1).await.1, "OUTSIDE_TTL", "{key}");
    }
    // A request's own bound is plain time.
    let sunday = shown(moments[0] + 2 * DAY);
    let bounded = async |max_age: &str| {
        statuses(&running, 0, json!({"asOf": sunday, "maxAge": max_age})).await
    };
    assert_eq!(bounded("172800s").await.0, "PRESENT");
    assert_eq!(bounded("172799s").await.0, "OUTSIDE_TTL");

    let (status, view) = running.get("/v1/featureViews/traded").await;
    assert_eq!(status, 200, "{view}");
    assert_eq!(
        view["ttlCalendar"],
        json!({
            "timeZone": "America/New_York",
            "weekdaysOff": ["saturday", "sunday"],
            "daysOff": ["2012-10-29", "2012-10-30"],
        })
    );
    let (_, plain) = running.get("/v1/featureViews/plain").await;
    assert_eq!(plain["ttlCalendar"], Json::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn today_and_in_statistics_days_off_do_not_count_either() {
    let now = Timestamp::now().micros();
    let days: Vec<String> = (-1..=1)
        .map(|day| shown(now + day * DAY)[..10].to_owned())
        .collect();
    // Yesterday, today and tomorrow are off: what is of the day before yesterday is as old as at its end.
    let calendar = format!("time_zone = \"UTC\", days_off = {}", json!(days));
    let (start, end) = (
        DEFINITIONS.find("time_zone").unwrap(),
        DEFINITIONS.find(" }\n    history").unwrap(),
    );
    let definitions = format!("{}{calendar}{}", &DEFINITIONS[..start], &DEFINITIONS[end..]);
    let yesterday = now.div_euclid(DAY) * DAY - DAY;
    let moments = [yesterday - DAY, yesterday - DAY - 1, yesterday + 1];
    let running = traded(&definitions, &moments).await;
    let mut found = Vec::new();
    for key in 0..moments.len() {
        found.push(statuses(&running, key, json!({})).await.0);
    }
    assert_eq!(found, [told(true), told(false), told(true)]);
    let mut client = running.features().await;
    let mut outside = async |view: &str| {
        let request = pb::GetFeatureViewRequest {
            view: view.to_owned(),
            statistics: true,
        };
        let view = client.get_feature_view(request).await.unwrap();
        view.into_inner().statistics.unwrap().outside_ttl
    };
    assert_eq!(outside("traded").await, 1);
    assert!(outside("plain").await >= 2);
}

/// The same numbers every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: i64) -> i64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 2).unwrap() % end
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn training_sets_have_what_is_served() {
    const ENTITIES: usize = 30;
    const ROWS: usize = 150;
    let mut random = Random(7);
    // Weeks with weekends, the storm and the change of clocks.
    let begin = micros("2012-10-22T00:00:00Z");
    let events: Vec<i64> = (0..ENTITIES)
        .map(|_| begin + random.below(21 * DAY))
        .collect();
    let running = traded(DEFINITIONS, &events).await;
    let spine: Vec<(i64, i64)> = (0..ROWS)
        .map(|row| {
            let key = row % ENTITIES;
            let wait = random.below(7 * DAY);
            // Some at the very edge of a day of plain time.
            let wait = if row % 10 == 0 {
                DAY + row as i64 % 20 / 10
            } else {
                wait
            };
            (key as i64, events[key] + wait)
        })
        .collect();
    let joined = join(&running, &spine).await;
    let mut counts = [0; 3];
    for ((key, at), (traded, plain)) in spine.into_iter().zip(joined) {
        let asked = json!({"asOf": shown(at)});
        let served = statuses(&running, usize::try_from(key).unwrap(), asked).await;
        let wanted = (told(traded).to_owned(), told(plain).to_owned());
        assert_eq!(served, wanted, "{key} at {}", shown(at));
        counts[usize::from(traded) + usize::from(plain)] += 1;
    }
    // None of the two, one thanks to the calendar, both.
    assert!(counts.iter().all(|count| *count > 15), "{counts:?}");
}

/// Whether the training set has the features of both views at each row.
async fn join(running: &Running, spine: &[(i64, i64)]) -> Vec<(bool, bool)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spine.parquet");
    write_spine(&path, spine);
    let request = pb::GetHistoricalFeaturesRequest {
        features: vec!["traded:volume".into(), "plain:turnover".into()],
        spine: std::fs::read(&path).unwrap(),
        ..Default::default()
    };
    let mut client = running.features().await;
    let answer = client.get_historical_features(request).await.unwrap();
    let (mut answer, mut bytes) = (answer.into_inner(), Vec::new());
    while let Some(part) = answer.message().await.unwrap() {
        bytes.extend(part.arrow_ipc);
    }
    let reader = arrow_ipc::reader::StreamReader::try_new(bytes.as_slice(), None).unwrap();
    let mut found = Vec::new();
    for batch in reader.map(Result::unwrap) {
        let has = |batch: &RecordBatch, name: &str| -> Vec<bool> {
            let column = batch.column_by_name(name).unwrap();
            let column = column.as_primitive::<Int64Type>();
            (0..column.len()).map(|row| column.is_valid(row)).collect()
        };
        found.extend(
            has(&batch, "volume")
                .into_iter()
                .zip(has(&batch, "turnover")),
        );
    }
    found
}
