//! What is particular to SQLite: files.

use std::{path::Path, time::Duration};

use ferrocast::{
    catalog::CatalogStore,
    config::Secret,
    error::{Error, ErrorKind},
    features::{ListValue, OnlineStore, Value},
    stores::{DatabaseOptions, open},
};

use crate::fixtures::*;

fn options(path: &Path) -> DatabaseOptions {
    DatabaseOptions::new(Secret::from(format!("sqlite:{}", path.display())))
}

/// Options that do not wait for a locked file.
fn impatient(path: &Path) -> DatabaseOptions {
    DatabaseOptions {
        connect_timeout: Duration::from_millis(50),
        ..options(path)
    }
}

async fn open_fault(path: &Path) -> Error {
    let error = open(&impatient(path)).await.err().unwrap();
    let named = path.display().to_string();
    assert!(error.message().contains(&named), "{error}");
    error
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(
        &path,
        "these are notes, and not a database at all\n".repeat(50),
    )
    .unwrap();
    let error = open_fault(&path).await;
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.message().contains("not a SQLite database"), "{error}");
}

#[tokio::test]
async fn a_missing_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one/two/store.db");
    let store = open(&impatient(&path)).await.unwrap();
    store.migrate().await.unwrap();
    assert!(path.is_file());
}

#[tokio::test]
async fn what_is_in_the_way_of_file_or_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = open_fault(folder.path()).await;
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    assert!(error.message().contains("cannot be opened"), "{error}");
    let in_the_way = folder.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    let error = open_fault(&in_the_way.join("below/store.db")).await;
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    let named = format!("folder {}", in_the_way.join("below").display());
    assert!(error.message().contains(&named), "{error}");
}

#[tokio::test]
async fn names_that_differ_in_case_alone_are_told() {
    let fixture = sqlite().await;
    fixture.apply(&one_view("applicant", ID, X)).await;
    fixture
        .execute("ALTER TABLE fv_applicant ADD COLUMN Y REAL")
        .await;
    let second = format!(r#"{X}, {{ name = "y", type = "double" }}"#);
    for (view, features, words) in [
        ("Applicant", X, "the table fv_Applicant from fv_applicant"),
        (
            "applicant",
            second.as_str(),
            "the column fv_applicant.y from fv_applicant.Y",
        ),
    ] {
        // Of another project, so that what is there stays.
        let text = one_view(view, ID, features);
        let project = if view == "applicant" { "demo" } else { "other" };
        let plan = fixture.plan(&text.replace("demo", project)).await;
        let error = fixture.store.apply_plan(&plan).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
        for words in [words, "upper and lower case"] {
            assert!(error.message().contains(words), "{error}");
        }
    }
}

#[tokio::test]
async fn a_file_that_somebody_keeps_locked_is_unavailable_until_they_let_go() {
    let fixture = sqlite().await;
    let view = numbers(&fixture).await;
    let path = fixture.url.strip_prefix("sqlite:").unwrap();
    let store = open(&impatient(Path::new(path))).await.unwrap();
    let other = rusqlite::Connection::open(path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store
        .write(&view, vec![number(1, 1, 1, 1.0)])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.message().contains(path)
            && error
                .message()
                .contains("is locked by another write or load"),
        "{error}"
    );
    // Who only reads is not in the way of a writer.
    assert_eq!(store.read(&view, &[id(1)]).await.unwrap(), [None]);
    other.execute_batch("COMMIT").unwrap();
    store
        .write(&view, vec![number(1, 1, 1, 1.0)])
        .await
        .unwrap();
}

#[tokio::test]
async fn values_of_another_type_are_refused_whoever_writes_them() {
    let fixture = sqlite().await;
    let features = r#"{ name = "b", type = "bool" }, { name = "i", type = "int32" }, { name = "f", type = "float" }, { name = "t", type = "timestamp" }"#;
    let view = fixture
        .apply(&one_view("typed", ID, features))
        .await
        .remove(0);
    let path = fixture.url.strip_prefix("sqlite:").unwrap();
    let connection = rusqlite::Connection::open(path).unwrap();
    let insert = |column: &str, value: &str| {
        connection.execute_batch(&format!(
            "INSERT OR REPLACE INTO fv_typed (id, event_timestamp, created_at, {column}) VALUES (1, 1, 1, {value})"
        ))
    };
    for (column, value) in [
        ("b", "2"),
        ("b", "'yes'"),
        ("i", "2147483648"),
        ("f", "'1,5'"),
        ("f", "x'00'"),
        ("t", "'2016-01-04'"),
        ("t", "9223372036854775807"),
    ] {
        assert!(insert(column, value).is_err(), "{column} = {value}");
    }
    // More than a 32-bit float holds: not infinity, but a fault that names the column.
    insert("f", "1e300").unwrap();
    let error = fixture.store.read(&view, &[id(1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.message().contains("fv_typed.f"), "{error}");
}

#[tokio::test]
async fn a_second_process_sees_what_was_written() {
    let fixture = sqlite().await;
    let view = numbers(&fixture).await;
    let other = fixture.another().await;
    assert_eq!(other.load_catalog().await.unwrap().revision, 1);
    fixture
        .store
        .write(&view, vec![number(1, 1, 1, 1.0)])
        .await
        .unwrap();
    assert!(other.read(&view, &[id(1)]).await.unwrap()[0].is_some());
}

#[tokio::test]
async fn a_url_of_neither_kind_is_refused() {
    for url in ["mysql://h/d", "store.db", "sqlite:", ""] {
        let options = DatabaseOptions::new(Secret::from(url));
        let error = open(&options).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}");
    }
}

#[tokio::test]
async fn an_acknowledged_write_survives_the_end_of_the_process() {
    let fixture = sqlite().await;
    let view = numbers(&fixture).await;
    fixture
        .store
        .write(&view, vec![number(1, 1, 1, 1.0)])
        .await
        .unwrap();
    // What a kill leaves behind: the files as they are while the store is open, nothing closed or checkpointed.
    let path = fixture.url.strip_prefix("sqlite:").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.db");
    std::fs::copy(path, &copy).unwrap();
    std::fs::copy(format!("{path}-wal"), folder.path().join("copy.db-wal")).unwrap();
    let store = open(&options(&copy)).await.unwrap();
    store.check_schema().await.unwrap();
    assert!(store.read(&view, &[id(1)]).await.unwrap()[0].is_some());
}

#[tokio::test]
async fn a_migration_that_was_stopped_before_the_views_tables_goes_on() {
    let fixture = sqlite().await;
    let view = numbers(&fixture).await;
    fixture.write(&view, vec![number(1, 1, 1, 1.0)]).await;
    fixture
        .execute("ALTER TABLE fv_numbers DROP COLUMN _feature_times; ALTER TABLE fv_numbers DROP COLUMN _generation")
        .await;
    let error = fixture.store.read(&view, &[id(1)]).await.unwrap_err();
    assert!(error.message().contains("ferrocast migrate"), "{error}");
    assert_eq!(fixture.store.migrate().await.unwrap(), Vec::<String>::new());
    let found = fixture.row(&view, id(1)).await;
    assert_eq!(found, Some(number(1, 1, 1, 1.0).row));
}

#[tokio::test]
async fn lists_by_plain_sql_are_json_arrays() {
    let fixture = sqlite().await;
    let list = r#"{ name = "l", type = "list<int32>" }"#;
    let view = fixture.apply(&one_view("lists", ID, list)).await.remove(0);
    let path = fixture.url.strip_prefix("sqlite:").unwrap();
    let connection = rusqlite::Connection::open(path).unwrap();
    let insert = |value: &str| {
        connection.execute_batch(&format!(
            "INSERT OR REPLACE INTO fv_lists (id, event_timestamp, created_at, l) VALUES (1, 1, 1, {value})"
        ))
    };
    for bad in ["'1, 2'", "'{}'", "'1'", "'null'", "''", "7"] {
        assert!(insert(bad).is_err(), "{bad}");
    }
    for (text, expected) in [
        ("NULL", Value::Null),
        ("'[]'", Value::List(ListValue::Int32(Vec::new()))),
        ("' [1, -2]'", Value::List(ListValue::Int32(vec![1, -2]))),
    ] {
        insert(text).unwrap();
        let found = fixture.row(&view, id(1)).await.unwrap();
        assert_eq!(found.values, [expected]);
    }
    // An array of something else is told with the column.
    insert("'[1, 2.5]'").unwrap();
    let error = fixture.store.read(&view, &[id(1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.message().contains("fv_lists.l"), "{error}");
}

#[tokio::test]
async fn a_column_that_the_operator_holds_on_to_stays() {
    let fixture = sqlite().await;
    let two = one_view("numbers", ID, &format!("{X}, {Y}"));
    fixture.apply(&two).await;
    fixture.execute("CREATE INDEX mine ON fv_numbers (y)").await;
    let error = fixture.try_apply(&one_view("numbers", ID, X)).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
    for words in ["fv_numbers.y", "mine"] {
        assert!(error.message().contains(words), "{error}");
    }
    assert_eq!(fixture.store.catalog_revision().await.unwrap(), 1);
    fixture.execute("DROP INDEX mine").await;
    fixture.apply(&one_view("numbers", ID, X)).await;
}

#[tokio::test]
async fn times_that_somebody_has_written_by_hand_are_told() {
    let fixture = sqlite().await;
    let view = numbers(&fixture).await;
    fixture.write(&view, vec![number(1, 1, 1, 1.0)]).await;
    for (column, value) in [("_feature_times", "'yesterday'"), ("_generation", "-1")] {
        fixture
            .execute(&format!("UPDATE fv_numbers SET {column} = {value}"))
            .await;
        let error = fixture.store.read(&view, &[id(1)]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
        assert!(error.message().contains(column), "{error}");
        fixture
            .execute(&format!("UPDATE fv_numbers SET {column} = NULL"))
            .await;
    }
    let found = fixture.row(&view, id(1)).await;
    assert_eq!(found, Some(number(1, 1, 1, 1.0).row));
}

#[tokio::test]
async fn a_key_that_another_process_has_changed_is_written_by() {
    let fixture = sqlite().await;
    let two = r#"{ name = "id", type = "int64" }, { name = "b", type = "int64" }"#;
    let view = fixture.apply(&one_view("numbers", two, X)).await.remove(0);
    let running = fixture.another().await;
    let both = key([Value::Int64(1), Value::Int64(2)]);
    let row = write_row(both, 1, 1, vec![Value::Double(1.0)]);
    let rows = vec![Some(Ok(vec![row.clone()])), None];
    running.write(&view, vec![row]).await.unwrap();
    load(&running, &view, rows, &note("two keys"))
        .await
        .unwrap();
    let view = numbers(&fixture).await;
    // No statement tells the other store's connections before this one.
    let written = running.write(&view, vec![number(1, 1, 1, 1.0)]).await;
    assert_eq!(written.unwrap(), counts(1, 0));
    let rows = vec![Some(Ok(vec![number(2, 1, 1, 2.0)])), None];
    let loaded = load(&running, &view, rows, &note("one key")).await;
    assert_eq!(loaded.unwrap(), counts(1, 0));
}

#[tokio::test]
async fn a_feature_called_like_the_rows_own_number_cannot_come_later() {
    let fixture = sqlite().await;
    numbers(&fixture).await;
    for name in ["rowid", "OID", "_rowid_"] {
        let features = format!(r#"{X}, {{ name = "{name}", type = "int64" }}"#);
        let definitions = one_view("numbers", ID, &features);
        let error = fixture.try_apply(&definitions).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
        let named = format!("fv_numbers.{name}");
        assert!(error.message().contains(&named), "{error}");
    }
}

#[tokio::test]
async fn a_file_has_no_schemas() {
    let fixture = sqlite().await;
    let on_table = |name: &str| {
        format!(
            "{}table = {{ name = \"{name}\" }}\n",
            one_view("numbers", ID, X)
        )
    };
    for name in ["crm.accounts", "temp.accounts", "a.b.c"] {
        let error = fixture.try_apply(&on_table(name)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
        for words in [name, "\"numbers\"", "no schemas"] {
            assert!(error.message().contains(words), "{error}");
        }
    }
    fixture
        .execute(
            "CREATE TABLE \"we ird.t\" (id bigint, event_timestamp bigint, x double); \
             INSERT INTO \"we ird.t\" VALUES (1, 1, 2.5)",
        )
        .await;
    for name in ["we ird.t", "MAIN.we ird.t"] {
        let view = fixture.apply(&on_table(name)).await.remove(0);
        let found = fixture.row(&view, id(1)).await.unwrap();
        assert_eq!(found.values, [Value::Double(2.5)]);
    }
}

#[tokio::test]
async fn a_sql_view_that_errs_is_told() {
    let fixture = sqlite().await;
    fixture
        .execute(
            "CREATE TABLE raw (id bigint, t bigint, v text); INSERT INTO raw VALUES (1, 1, '{\"x\": 1.5}'), (2, 1, '{'); \
             CREATE VIEW parsed AS SELECT id, t AS event_timestamp, json_extract(v, '$.x') AS x FROM raw",
        )
        .await;
    let definitions = format!(
        "{}table = {{ name = \"parsed\" }}\n",
        one_view("numbers", ID, X)
    );
    let view = fixture.apply(&definitions).await.remove(0);
    let found = fixture.row(&view, id(1)).await.unwrap();
    assert_eq!(found.values, [Value::Double(1.5)]);
    let error = fixture.store.read(&view, &[id(2)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
    for words in ["\"numbers\" reads the table parsed", "JSON"] {
        assert!(error.message().contains(words), "{error}");
    }
}
