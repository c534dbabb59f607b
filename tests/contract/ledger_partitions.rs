//! The ledger's partitions in PostgreSQL: a day each, made while others write and read, dropped as a whole.

use ferrocast::{
    error::ErrorKind,
    inference::{LedgerStore, TensorType},
};

use crate::{
    fixtures::*,
    ledger::{NOON, all, append, entry, everything, version},
    postgres::Postgres,
};

const DAY_MICROS: i64 = 86_400_000_000;

async fn client(fixture: &Fixture) -> tokio_postgres::Client {
    let name = fixture.url.rsplit('/').next().unwrap();
    Postgres::shared().connect(name).await
}

async fn partitions(client: &tokio_postgres::Client) -> Vec<String> {
    let sql = "SELECT inhrelid::regclass::text FROM pg_inherits \
               WHERE inhparent = 'ferrocast_predictions'::regclass ORDER BY 1";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_day_has_a_partition_and_so_has_the_next() {
    let fixture = postgres().await;
    let client = client(&fixture).await;
    assert_eq!(partitions(&client).await, [] as [&str; 0]);
    let version = version("m", "1", &[TensorType::Float]);
    let midnight = NOON + DAY_MICROS / 2;
    append(&fixture.store, &[entry(&version, midnight - 1)]).await;
    let names = [
        "ferrocast_predictions_20261121",
        "ferrocast_predictions_20261122",
    ];
    assert_eq!(partitions(&client).await, names);
    // Which partition it is follows from the id, whatever the clock says.
    append(&fixture.store, &[entry(&version, midnight)]).await;
    for name in names {
        let sql = format!("SELECT count(*) FROM ONLY {name}");
        let count: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
        assert_eq!(count, 1, "{name}");
    }
}

#[tokio::test]
async fn a_look_up_goes_to_one_partition() {
    let fixture = postgres().await;
    let client = client(&fixture).await;
    let version = version("m", "1", &[TensorType::Float]);
    let days: Vec<_> = (0..5)
        .map(|day| entry(&version, NOON + day * DAY_MICROS))
        .collect();
    append(&fixture.store, &days).await;
    client
        .batch_execute("SET plan_cache_mode = force_generic_plan")
        .await
        .unwrap();
    let sql = "SELECT record FROM ferrocast_predictions WHERE id = $1";
    client
        .batch_execute(&format!("PREPARE look_up(uuid) AS {sql}"))
        .await
        .unwrap();
    let explained = format!("EXPLAIN ANALYZE EXECUTE look_up('{}')", days[2].id);
    let lines = client.query(&explained, &[]).await.unwrap();
    let plan: Vec<String> = lines.iter().map(|line| line.get(0)).collect();
    let plan = plan.join("\n");
    assert!(plan.contains("ferrocast_predictions_20261123"), "{plan}");
    // Six partitions, with tomorrow's.
    assert!(plan.contains("Subplans Removed: 5"), "{plan}");
}

#[tokio::test]
async fn whoever_reads_for_long_holds_up_no_writer_and_is_not_disturbed_by_retention() {
    let fixture = postgres().await;
    let version = version("m", "1", &[TensorType::Float]);
    let old = entry(&version, NOON);
    append(&fixture.store, std::slice::from_ref(&old)).await;
    let reader = client(&fixture).await;
    reader
        .batch_execute("BEGIN; SELECT count(*) FROM ferrocast_predictions")
        .await
        .unwrap();

    // A new partition is attached while the whole table is being read.
    let new = entry(&version, NOON + 40 * DAY_MICROS);
    append(&fixture.store, std::slice::from_ref(&new)).await;

    let cut = at(NOON + 40 * DAY_MICROS - DAY_MICROS / 2);
    let error = fixture.store.drop_predictions(cut).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("in use"), "{error}");
    reader.batch_execute("COMMIT").await.unwrap();
    assert!(fixture.store.drop_predictions(cut).await.unwrap());
    assert_eq!(all(&fixture.store, everything(), 10).await, [new]);
}

#[tokio::test]
async fn a_partition_that_somebody_dropped_is_made_again() {
    let fixture = postgres().await;
    let version = version("m", "1", &[TensorType::Float]);
    append(&fixture.store, &[entry(&version, NOON)]).await;
    fixture
        .execute("DROP TABLE ferrocast_predictions_20261121")
        .await;
    let again = entry(&version, NOON + 5);
    append(&fixture.store, std::slice::from_ref(&again)).await;
    assert_eq!(all(&fixture.store, everything(), 10).await, [again]);
}

/// A login that writes and makes no tables, as where an administrator makes the partitions.
#[tokio::test]
async fn today_is_written_although_tomorrow_cannot_be_made() {
    let fixture = postgres().await;
    let version = version("m", "1", &[TensorType::Float]);
    append(&fixture.store, &[entry(&version, NOON)]).await;
    let client = client(&fixture).await;
    client
        .batch_execute("DROP TABLE ferrocast_predictions_20261122")
        .await
        .unwrap();
    let url = writer_of(&fixture, &client).await;
    let store = open_store(&url, None).await;
    for micros in [1, 2] {
        append(&store, &[entry(&version, NOON + micros)]).await;
    }
    assert_eq!(all(&store, everything(), 10).await.len(), 3);
    assert_eq!(
        partitions(&client).await,
        ["ferrocast_predictions_20261121"]
    );
    // What needs the other partition is refused, and says so.
    let tomorrow: std::sync::Arc<[_]> = [entry(&version, NOON + DAY_MICROS)].into();
    let error = store.append_predictions(&tomorrow).await.unwrap_err();
    assert!(error.message().contains("denied"), "{error}");
}

/// The URL of a login of the database that may read and write what is there.
async fn writer_of(fixture: &Fixture, client: &tokio_postgres::Client) -> String {
    let (before, database) = fixture.url.rsplit_once('/').unwrap();
    let role = format!("writer_{database}");
    client
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'w'; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
        ))
        .await
        .unwrap();
    let host = before.rsplit_once('@').unwrap().1;
    format!("postgres://{role}:w@{host}/{database}")
}

#[tokio::test]
async fn a_partition_that_is_kept_elsewhere_is_left_alone() {
    let fixture = postgres().await;
    let client = client(&fixture).await;
    client
        .batch_execute(
            "CREATE TABLE archive PARTITION OF ferrocast_predictions FOR VALUES \
             FROM ('00000000-0000-0000-0000-000000000000') TO ('00010000-0000-0000-0000-000000000000')",
        )
        .await
        .unwrap();
    let version = version("m", "1", &[TensorType::Float]);
    append(&fixture.store, &[entry(&version, NOON)]).await;
    let far = at(NOON + 400 * DAY_MICROS);
    assert!(fixture.store.drop_predictions(far).await.unwrap());
    assert_eq!(partitions(&client).await, ["archive"]);
}

/// What the documentation says a prediction of 22 inputs takes.
#[tokio::test]
async fn a_prediction_of_22_inputs_takes_what_is_documented() {
    use ferrocast::inference::TensorType::{Float, String};

    let fixture = postgres().await;
    let mut types = vec![Float; 17];
    types.extend([String; 5]);
    let version = version("credit_risk", "1", &types);
    let entries: Vec<_> = (0..10_000)
        .map(|number| {
            let mut entry = entry(&version, NOON + number * 1_000);
            let mut value = entry.values.remove(0);
            entry.values = vec![value.clone(); 17];
            value.value = ferrocast::features::Value::String("term_36".into());
            entry.values.extend(vec![value; 5]);
            entry
        })
        .collect();
    for part in entries.chunks(1_000) {
        append(&fixture.store, part).await;
    }
    let client = client(&fixture).await;
    let sql = "SELECT avg(length(record))::float8, \
               pg_total_relation_size('ferrocast_predictions_20261121')::float8 / count(*) FROM ferrocast_predictions";
    let row = client.query_one(sql, &[]).await.unwrap();
    let (record, whole): (f64, f64) = (row.get(0), row.get(1));
    eprintln!("{record} bytes of record, {whole} bytes in all");
    assert!((100.0..200.0).contains(&record), "{record}");
    assert!((250.0..400.0).contains(&whole), "{whole}");
}
