//! A load whose rows the database itself has: the query of the view's source, into the stage of the load.

use deadpool_postgres::Transaction;
use tokio_postgres::types::Type;

use super::{
    columns::Found,
    fault::Fault,
    stage::{self, STAGE, Staged},
    values::{Bound, Cell},
};
use crate::{
    catalog::{FeatureView, Field, Origin, ScalarType, Source, ValueType},
    error::{Error, Violation},
    features::{KEY_BYTES_MAX, Timestamp, Value},
    stores::table::{key_names, quoted},
};

/// Runs the query of a view's source into the stage.
///
/// # Errors
/// `FailedPrecondition` where the query fails or its columns are not those of the view; `InvalidArgument` naming the
/// columns that hold what cannot be stored, and in how many rows.
pub(super) async fn fill(
    transaction: &Transaction<'_>,
    view: &FeatureView,
    since: Option<Timestamp>,
) -> Result<Staged, Fault> {
    let Some((source, query)) = view.source.as_ref().and_then(query_of) else {
        return Err(Error::internal(format!(
            "a load by a query of the feature view \"{}\", whose source is none",
            view.name
        ))
        .into());
    };
    let asked = transaction
        .prepare(&format!("SELECT * FROM {query}"))
        .await
        .map_err(|error| query_fault(view, error))?;
    let mut found = Found {
        what: "the query".to_owned(),
        columns: asked.columns(),
        faults: Vec::new(),
    };
    let insert = insert(view, source, &query, &mut found);
    if !found.faults.is_empty() {
        return Err(Error::failed_precondition(format!(
            "feature view \"{}\": {}",
            view.name,
            found.faults.join("; ")
        ))
        .into());
    }
    let since = since.map_or(Value::Null, Value::Timestamp);
    let insert = transaction.prepare_typed(&insert, &[Type::TIMESTAMPTZ]);
    let insert = insert.await.map_err(|error| query_fault(view, error))?;
    let row_count = transaction
        .execute(&insert, &[&Bound(&since)])
        .await
        .map_err(|error| query_fault(view, error))?;
    let newest = check(transaction, view, source).await?;
    Ok(Staged {
        row_count,
        is_in_order: false,
        newest,
    })
}

/// The query as a table, whatever it ends with.
fn query_of(source: &Source) -> Option<(&Source, String)> {
    match &source.origin {
        Origin::Path(_) => None,
        Origin::Query(query) => {
            let query = query.trim().trim_end_matches(';');
            // It may end with a comment.
            Some((source, format!("({query}\n) AS asked")))
        }
    }
}

fn insert(view: &FeatureView, source: &Source, query: &str, found: &mut Found<'_>) -> String {
    let mut cells = Vec::new();
    let fields = |cells: &mut Vec<String>, found: &mut Found<'_>, fields: &[Field]| {
        for field in fields {
            cells.extend(found.store_as("asked", &field.name, field.value_type));
        }
    };
    fields(&mut cells, found, &view.join_keys);
    let time = found.store_as("asked", &source.timestamp_field, ValueType::Timestamp);
    let time = time.unwrap_or_default();
    cells.push(time.clone());
    cells.extend(match &source.created_timestamp_field {
        Some(name) => found.store_as("asked", name, ValueType::Timestamp),
        None => Some("now()".to_owned()),
    });
    fields(&mut cells, found, &view.features);
    format!(
        "INSERT INTO {STAGE} ({}) SELECT {} FROM {query} WHERE $1 IS NULL OR {time} >= $1 OR {time} IS NULL",
        stage::columns(view),
        cells.join(", ")
    )
}

/// What the database says of somebody's query is for whoever wrote it.
fn query_fault(view: &FeatureView, error: tokio_postgres::Error) -> Fault {
    let of_query = error.as_db_error().filter(|db| {
        // Values, rights, names and syntax; not what the server does for reasons of its own.
        matches!(db.code().code().get(..2), Some("21" | "22" | "42" | "0A"))
    });
    match of_query {
        None => Fault::Driver(error),
        Some(db) => {
            let sentence = format!(
                "the query of the feature view \"{}\" fails: {}",
                view.name,
                db.message()
            );
            Fault::Own(Error::failed_precondition(sentence).with_source(error))
        }
    }
}

/// What may not be in the stage: a column of the query, a condition, and what it means.
struct Check {
    column: String,
    condition: String,
    meaning: &'static str,
}

/// Checks what the query brought; returns its newest event timestamp.
async fn check(
    transaction: &Transaction<'_>,
    view: &FeatureView,
    source: &Source,
) -> Result<Option<Timestamp>, Fault> {
    let checks = checks(view, source);
    let counts: Vec<String> = checks
        .iter()
        .map(|check| format!("count(*) FILTER (WHERE {})", check.condition))
        .collect();
    // First whether the newest time is one that can be told.
    let sql = format!(
        "SELECT {}, CASE WHEN isfinite(max(event_timestamp)) THEN max(event_timestamp) END FROM {STAGE}",
        counts.join(", ")
    );
    let row = transaction.query_one(&sql, &[]).await?;
    let mut faults = Vec::new();
    for (index, check) in checks.iter().enumerate() {
        let count: i64 = row.try_get(index)?;
        if count > 0 {
            faults.push(Violation {
                field: check.column.clone(),
                description: format!("{} in {count} row(s) of the query", check.meaning),
            });
        }
    }
    if !faults.is_empty() {
        let place = format!("feature view \"{}\"", view.name);
        return Err(Error::violations(faults).within(&place).into());
    }
    let newest: Cell = row.try_get(checks.len())?;
    Ok(newest.timestamp())
}

const OUT_OF_RANGE: &str = "is outside the years 1 to 9999";
const TIME_MIN: &str = "'0001-01-01T00:00:00Z'::timestamptz";
const TIME_MAX: &str = "'9999-12-31T23:59:59.999999Z'::timestamptz";

fn checks(view: &FeatureView, source: &Source) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut add = |column: &str, condition: String, meaning| {
        checks.push(Check {
            column: column.to_owned(),
            condition,
            meaning,
        });
    };
    for key in key_names(view) {
        add(key, format!("{} IS NULL", quoted(key)), "is null");
    }
    let created = source.created_timestamp_field.as_deref();
    let times = [
        ("event_timestamp", source.timestamp_field.as_str()),
        ("created_at", created.unwrap_or("created_at")),
    ];
    for (column, name) in times {
        add(name, format!("{column} IS NULL"), "is null");
        add(name, is_out_of_range(column), OUT_OF_RANGE);
    }
    for feature in &view.features {
        let column = quoted(&feature.name);
        if feature.value_type == ValueType::Timestamp {
            add(&feature.name, is_out_of_range(&column), OUT_OF_RANGE);
        }
        if let ValueType::List(_) = feature.value_type {
            let condition = format!(
                "CASE WHEN array_ndims({column}) > 1 THEN true WHEN {column} IS NULL THEN false \
                 ELSE array_position({column}, NULL) IS NOT NULL END"
            );
            let meaning = "has a null as an element, or more than one dimension,";
            add(&feature.name, condition, meaning);
        }
        if feature.value_type == ValueType::List(ScalarType::Timestamp) {
            let condition = format!("{TIME_MIN} > ANY ({column}) OR {TIME_MAX} < ANY ({column})");
            add(&feature.name, condition, OUT_OF_RANGE);
        }
    }
    let lengths: Vec<String> = view
        .join_keys
        .iter()
        .filter(|key| matches!(key.value_type, ValueType::String | ValueType::Bytes))
        .map(|key| format!("coalesce(octet_length({}), 0)", quoted(&key.name)))
        .collect();
    if let Some(first) = view.join_keys.first().filter(|_| !lengths.is_empty()) {
        add(
            &first.name,
            format!("{} > {KEY_BYTES_MAX}", lengths.join(" + ")),
            "is, with the other join keys, longer than a key can be",
        );
    }
    checks
}

fn is_out_of_range(column: &str) -> String {
    format!("{column} < {TIME_MIN} OR {column} > {TIME_MAX}")
}
