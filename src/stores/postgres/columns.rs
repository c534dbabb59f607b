//! Columns that somebody else has made, of tables and of queries: what declared type each can become without loss.
//!
//! Knows names and types, and no connection. `existing` and `query_load` call.

use tokio_postgres::{
    Column,
    types::{Kind, Type},
};

use super::values::{driver_type, sql_type};
use crate::{
    catalog::{ScalarType, ValueType},
    stores::table::quoted,
};

/// A UUID as Postgres writes it: another spelling is another text, and no key of such a column.
const UUID_PATTERN: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

/// Names and types of columns, of which some are looked for; every fault is noted.
pub(super) struct Found<'a> {
    /// What has the columns, for messages: `the table crm.accounts`.
    pub(super) what: String,
    /// The columns.
    pub(super) columns: &'a [Column],
    /// What is wrong with them.
    pub(super) faults: Vec<String>,
}

impl Found<'_> {
    /// The SQL that reads a column of `table` as a declared type; none, and a fault, where that cannot be.
    pub(super) fn read_as(
        &mut self,
        table: &str,
        name: &str,
        declared: ValueType,
    ) -> Option<String> {
        let found = self.type_of(name)?;
        let column = format!("{table}.{}", quoted(name));
        let expression = conversion(&column, &found, declared);
        if expression.is_none() {
            self.faults.push(format!(
                "the column \"{name}\" of {} is of the type {}, which cannot become a {declared} without loss",
                self.what,
                found.name()
            ));
        }
        expression
    }

    /// The same, with the SQL type of a column of ours.
    pub(super) fn store_as(
        &mut self,
        table: &str,
        name: &str,
        declared: ValueType,
    ) -> Option<String> {
        let read = self.read_as(table, name, declared)?;
        let is_as_ours = self.is_of(name, &driver_type(declared));
        if declared == ValueType::Timestamp && !is_as_ours {
            return Some(format!("{read} AT TIME ZONE 'UTC'"));
        }
        if declared == ValueType::List(ScalarType::Timestamp) && !is_as_ours {
            // The cast would take the zone of the session. What has more dimensions is refused later, and stays as it is.
            return Some(format!(
                "CASE WHEN array_ndims({read}) > 1 THEN {read}::timestamptz[] WHEN {read} IS NOT NULL THEN \
                 ARRAY(SELECT e AT TIME ZONE 'UTC' FROM unnest({read}) WITH ORDINALITY AS u(e, n) ORDER BY n) END"
            ));
        }
        Some(read)
    }

    /// The SQL that turns a parameter of a join key into the type of the column, so that the column's index is used.
    pub(super) fn key_as(&self, name: &str, parameter: &str) -> String {
        let found = self.columns.iter().find(|column| column.name() == name);
        match found.map(Column::type_) {
            Some(&Type::BPCHAR) => format!("{parameter}::bpchar"),
            Some(&Type::UUID) => {
                format!("CASE WHEN {parameter} ~ '{UUID_PATTERN}' THEN {parameter}::uuid END")
            }
            _ => parameter.to_owned(),
        }
    }

    fn is_of(&self, name: &str, sql: &Type) -> bool {
        let mut columns = self.columns.iter();
        columns.any(|column| column.name() == name && column.type_() == sql)
    }

    fn type_of(&mut self, name: &str) -> Option<Type> {
        let mut named = self.columns.iter().filter(|column| column.name() == name);
        let Some(column) = named.next() else {
            self.faults
                .push(format!("{} has no column \"{name}\"", self.what));
            return None;
        };
        if named.next().is_some() {
            self.faults
                .push(format!("{} has the column \"{name}\" twice", self.what));
            return None;
        }
        Some(column.type_().clone())
    }
}

/// The SQL that makes a column a declared type; none where that could lose something.
///
/// A timestamp without a zone is read as one in UTC, whatever the zone of the session, see `values`.
fn conversion(column: &str, found: &Type, declared: ValueType) -> Option<String> {
    let (scalar, array, found) = match (declared, found.kind()) {
        (ValueType::List(element), Kind::Array(found)) => (element.value_type(), "[]", found),
        (ValueType::List(_), _) => return None,
        (scalar, _) => (scalar, "", found),
    };
    if *found == driver_type(scalar) || (scalar, found) == (ValueType::Timestamp, &Type::TIMESTAMP)
    {
        return Some(column.to_owned());
    }
    if (scalar, found) == (ValueType::Timestamp, &Type::DATE) {
        return Some(format!("{column}::timestamp{array}"));
    }
    let is_lossless = match scalar {
        ValueType::Int32 => *found == Type::INT2,
        ValueType::Int64 => matches!(*found, Type::INT2 | Type::INT4),
        ValueType::Float => *found == Type::INT2,
        ValueType::Double => matches!(
            *found,
            Type::INT2 | Type::INT4 | Type::FLOAT4 | Type::NUMERIC
        ),
        ValueType::String => matches!(*found, Type::VARCHAR | Type::BPCHAR | Type::UUID),
        ValueType::Bool | ValueType::Bytes | ValueType::Timestamp | ValueType::List(_) => false,
    };
    is_lossless.then(|| format!("{column}::{}", sql_type(declared)))
}
