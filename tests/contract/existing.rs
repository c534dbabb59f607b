//! Views on tables of somebody else.

use std::sync::Arc;

use ferrocast::{
    catalog::{Catalog, CatalogStore, FeatureView},
    error::ErrorKind,
    features::{OnlineStore, Scan, StoredRow, Value},
};

use crate::{fixtures::*, for_every_sql_store};

for_every_sql_store!(
    the_newest_row_of_somebody_elses_table,
    when_a_row_was_made_may_be_missing,
    columns_of_the_same_names,
    a_view_of_sql_serves_too,
    somebody_elses_table_is_read_only,
    somebody_elses_table_is_gone_through,
    what_a_table_lacks_is_named,
    a_table_that_is_no_more,
    a_bad_row_is_named,
    a_view_moves_to_somebody_elses_table_and_back,
);

/// Two accounts in a table that was there before.
async fn accounts(fixture: &Fixture) {
    let time = fixture.sql_time_type();
    let at = |micros| fixture.sql_time(at(micros));
    fixture
        .execute(&format!(
            "CREATE TABLE accounts (account bigint, seen {time}, made {time}, \"Balance\" double precision, note text); \
             INSERT INTO accounts VALUES (1, {t1}, {t1}, 10, 'first'), (1, {t3}, {t1}, 30, 'third'), (1, {t2}, {t9}, 20, NULL), \
             (2, {t2}, {t2}, 5, ''), (2, {t2}, {t3}, 6, 'made later'), (3, NULL, {t1}, 7, 'no time'), (NULL, {t1}, {t1}, 8, 'nobody')",
            t1 = at(1),
            t2 = at(2),
            t3 = at(3),
            t9 = at(9),
        ))
        .await;
}

const FEATURES: &str = r#"{ name = "x", type = "double" }, { name = "note", type = "string" }"#;

fn on_table(table: &str) -> String {
    let own = one_view("numbers", ID, FEATURES);
    format!("{own}table = {{ {table} }}\n")
}

const ACCOUNTS: &str = r#"name = "accounts", timestamp_field = "seen", created_timestamp_field = "made", columns = { id = "account", x = "Balance" }"#;

fn row(event: i64, created: i64, x: f64, text: &str) -> StoredRow {
    let values = vec![Value::Double(x), Value::String(text.into())];
    StoredRow::whole(time(event, created), values)
}

async fn view(fixture: &Fixture, table: &str) -> Arc<FeatureView> {
    fixture.apply(&on_table(table)).await.remove(0)
}

async fn the_newest_row_of_somebody_elses_table(fixture: Fixture) {
    accounts(&fixture).await;
    let view = view(&fixture, ACCOUNTS).await;
    let keys = [id(2), id(1), id(3), id(4), id(1)];
    let found = fixture.store.read(&view, &keys).await.unwrap();
    let first = Some(row(3, 1, 30.0, "third"));
    let second = Some(row(2, 3, 6.0, "made later"));
    assert_eq!(found, [second, first.clone(), None, None, first]);
    // Whoever fills it, it is read as it is.
    let (seen, made) = (fixture.sql_time(at(7)), fixture.sql_time(at(8)));
    fixture
        .execute(&format!(
            "INSERT INTO accounts VALUES (1, {seen}, {made}, NULL, 'new')"
        ))
        .await;
    let found = fixture.row(&view, id(1)).await.unwrap();
    assert_eq!(found.time(), time(7, 8));
    let text = Value::String("new".into());
    assert_eq!(found.values, [Value::Null, text]);
    assert!(found.is_whole());
}

async fn when_a_row_was_made_may_be_missing(fixture: Fixture) {
    accounts(&fixture).await;
    let (second, third) = (fixture.sql_time(at(2)), fixture.sql_time(at(3)));
    fixture
        .execute(&format!(
            "INSERT INTO accounts VALUES (2, {second}, NULL, 9, 'sometime'), (4, {third}, NULL, 4, 'sometime')"
        ))
        .await;
    let view = view(&fixture, ACCOUNTS).await;
    let found = fixture.store.read(&view, &[id(2), id(4)]).await.unwrap();
    let sometime = row(3, 0, 4.0, "sometime");
    assert_eq!(found, [Some(row(2, 3, 6.0, "made later")), Some(sometime)]);
    let newest = shown(&fixture, &view, Scan::default()).await;
    assert_eq!(newest.len(), 3);
}

async fn columns_of_the_same_names(fixture: Fixture) {
    let time = fixture.sql_time_type();
    let when = fixture.sql_time(at(4));
    fixture
        .execute(&format!(
            "CREATE TABLE plain (id bigint, event_timestamp {time}, x double precision, note text); \
             INSERT INTO plain VALUES (1, {when}, 2.5, 'plain')"
        ))
        .await;
    let schema = if fixture.is_sqlite() {
        "main"
    } else {
        "public"
    };
    let qualified = format!("name = \"{schema}.plain\"");
    for table in [r#"name = "plain""#, &qualified] {
        let view = view(&fixture, table).await;
        let found = fixture.row(&view, id(1)).await.unwrap();
        assert_eq!(found.event_timestamp, at(4));
        assert_eq!(found.values, row(4, 4, 2.5, "plain").values);
    }
}

async fn a_view_of_sql_serves_too(fixture: Fixture) {
    accounts(&fixture).await;
    fixture
        .execute("CREATE VIEW rich AS SELECT account AS id, seen AS event_timestamp, \"Balance\" AS x, note FROM accounts WHERE \"Balance\" > 5")
        .await;
    let view = view(&fixture, r#"name = "rich""#).await;
    let found = fixture.row(&view, id(2)).await.unwrap();
    assert_eq!(found.values, row(2, 2, 6.0, "made later").values);
}

async fn somebody_elses_table_is_read_only(fixture: Fixture) {
    accounts(&fixture).await;
    let view = view(&fixture, ACCOUNTS).await;
    let rows = vec![number(1, 9, 9, 1.0)];
    let messages = vec![Some(Ok(rows.clone())), None];
    let views = [Arc::clone(&view)];
    let loaded = load(&fixture.store, &view, messages, &note("n")).await;
    for error in [
        fixture.store.write(&view, rows).await.unwrap_err(),
        loaded.unwrap_err(),
        fixture.store.delete(&views, &id(1)).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
        assert!(error.message().contains("read-only"), "{error}");
    }
    let found = fixture.row(&view, id(1)).await;
    assert_eq!(found, Some(row(3, 1, 30.0, "third")));
    // It is not ours to drop either.
    fixture.apply("project = \"demo\"").await;
    fixture
        .execute("UPDATE accounts SET note = 'still there'")
        .await;
}

/// Entities and their x, in the order of the rows' times.
async fn shown(fixture: &Fixture, view: &FeatureView, scan: Scan) -> Vec<(String, Value)> {
    let rows = in_order(fixture.scan(view, scan).await.unwrap());
    let shown = rows
        .into_iter()
        .map(|mut write| (write.key.to_string(), write.row.values.remove(0)));
    shown.collect()
}

async fn somebody_elses_table_is_gone_through(fixture: Fixture) {
    accounts(&fixture).await;
    let view = view(&fixture, ACCOUNTS).await;
    let of = |entity: &str, x| (entity.to_owned(), Value::Double(x));
    let newest = shown(&fixture, &view, Scan::default()).await;
    assert_eq!(newest, [of("2", 6.0), of("1", 30.0)]);
    let scan = Scan {
        history: false,
        since: Some(at(3)),
    };
    assert_eq!(shown(&fixture, &view, scan).await, [of("1", 30.0)]);
    // All its rows are its history.
    let scan = Scan {
        history: true,
        since: None,
    };
    let expected = [
        of("1", 10.0),
        of("2", 5.0),
        of("2", 6.0),
        of("1", 20.0),
        of("1", 30.0),
    ];
    assert_eq!(shown(&fixture, &view, scan).await, expected);
}

async fn what_a_table_lacks_is_named(fixture: Fixture) {
    accounts(&fixture).await;
    let misspelt = r#"name = "accounts", timestamp_field = "seen", created_timestamp_field = "maid", columns = { id = "account", x = "balanse" }"#;
    for (table, words) in [
        (r#"name = "acounts""#, vec!["acounts"]),
        (
            r#"name = "accounts""#,
            vec!["accounts", "id", "x", "event_timestamp"],
        ),
        (misspelt, vec!["balanse", "maid"]),
    ] {
        let error = fixture.try_apply(&on_table(table)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
        for words in words.into_iter().chain(["\"numbers\""]) {
            assert!(error.message().contains(words), "{error}");
        }
    }
    let catalog = fixture.store.load_catalog().await.unwrap();
    assert_eq!(catalog, Catalog::default());
}

async fn a_table_that_is_no_more(fixture: Fixture) {
    accounts(&fixture).await;
    let view = view(&fixture, ACCOUNTS).await;
    fixture.execute("DROP TABLE accounts").await;
    let error = fixture.store.read(&view, &[id(1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
    assert!(error.message().contains("accounts"), "{error}");
    if fixture.is_sqlite() {
        assert!(!error.message().contains("migrate"), "{error}");
    }
    // The definition can go without it.
    fixture.apply("project = \"demo\"").await;
}

async fn a_bad_row_is_named(fixture: Fixture) {
    accounts(&fixture).await;
    let view = view(&fixture, ACCOUNTS).await;
    let mut faults = vec![
        ("seen", "seen", "'infinity'"),
        ("made", "made", "'infinity'"),
    ];
    if fixture.is_sqlite() {
        faults.push(("\"Balance\"", "Balance", "'much'"));
    }
    for (column, shown, value) in faults {
        fixture
            .execute(&format!("DELETE FROM accounts WHERE note = 'bad'; INSERT INTO accounts VALUES (2, {t}, {t}, 1, 'bad'); UPDATE accounts SET {column} = {value} WHERE note = 'bad'", t = fixture.sql_time(at(9))))
            .await;
        let of_read = fixture
            .store
            .read(&view, &[id(1), id(2)])
            .await
            .unwrap_err();
        let of_scan = fixture.scan(&view, Scan::default()).await.unwrap_err();
        for error in [of_read, of_scan] {
            assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
            let words = format!("entity 2: accounts.{shown} holds a value that is no");
            assert!(error.message().contains(&words), "{error}");
        }
        fixture.store.read(&view, &[id(1)]).await.unwrap();
    }
}

async fn a_view_moves_to_somebody_elses_table_and_back(fixture: Fixture) {
    accounts(&fixture).await;
    let own = one_view("numbers", ID, FEATURES);
    let view = fixture.apply(&own).await.remove(0);
    let values = vec![Value::Double(1.0), Value::Null];
    let mine = write_row(id(1), 1, 1, values);
    fixture.write(&view, vec![mine.clone()]).await;
    let theirs = self::view(&fixture, ACCOUNTS).await;
    let found = fixture.row(&theirs, id(1)).await;
    assert_eq!(found, Some(row(3, 1, 30.0, "third")));
    let view = fixture.apply(&own).await.remove(0);
    assert_eq!(fixture.row(&view, id(1)).await, None);
    assert_eq!(fixture.write(&view, vec![mine]).await, counts(1, 0));
}
