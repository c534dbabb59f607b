//! The typed columns of a request: their types, lengths and positions are checked, their values become the domain's.
//!
//! What a column is about, and what its rows mean together, is for the caller.

use super::{
    convert::{check_count, wire_type},
    pb,
};
use crate::{
    catalog::{ScalarType, ValueType},
    error::{Result, Violations},
    features::{Cells, ListValue, Timestamp, Value, request_faults},
};

/// Whether rows of a column may be null or left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blanks {
    /// They may.
    Allowed,
    /// It is a join key: every row has a value.
    Refused,
}

/// What a row says in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// The value in its place.
    Given,
    /// null.
    Null,
    /// Nothing.
    Absent,
}

/// Reads the columns of one request, which all have as many rows as its first.
#[derive(Debug)]
pub(super) struct ColumnReader {
    list: &'static str,
    row_count: usize,
    faults: Violations,
}

/// A place in a column, and what is wrong there.
type Fault = (String, String);

impl ColumnReader {
    /// For the columns in a field of a request, which can be about `columns_max` things.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the field, where there are more columns than that; naming the first column, where it has
    /// no row or more than `rows_max`.
    pub(super) fn new(
        list: &'static str,
        columns: &[pb::TypedColumn],
        columns_max: usize,
        rows_max: usize,
    ) -> Result<ColumnReader> {
        check_count(list, columns.len(), columns_max)?;
        let row_count = columns.first().map_or(0, claimed_rows);
        check_count(&format!("{list}[0]"), row_count, rows_max)?;
        Ok(ColumnReader {
            list,
            row_count,
            faults: request_faults(),
        })
    }

    /// How many rows every column has.
    pub(super) fn row_count(&self) -> usize {
        self.row_count
    }

    /// The place of a column in its request.
    pub(super) fn place(&self, index: usize) -> String {
        format!("{}[{index}]", self.list)
    }

    /// Notes that a column has a name that means nothing here.
    pub(super) fn unknown(&mut self, index: usize, name: &str, fault: impl Into<String>) {
        let place = self.place(index);
        self.faults.add(
            format!("{place}.name"),
            format!("\"{name}\" {}", fault.into()),
        );
    }

    /// Whether there are so many faults that reading on is of no use.
    pub(super) fn is_full(&self) -> bool {
        self.faults.is_full()
    }

    /// The cells of a column, of the type that it is defined as; none, and the fault noted, where there is one.
    pub(super) fn read(
        &mut self,
        index: usize,
        column: pb::TypedColumn,
        defined: ValueType,
        blanks: Blanks,
    ) -> Option<Cells> {
        match self.cells(column, defined, blanks) {
            Ok(cells) => Some(cells),
            Err((field, description)) => {
                let place = self.place(index);
                self.faults.add(format!("{place}.{field}"), description);
                None
            }
        }
    }

    /// What was read, if there were no faults.
    ///
    /// # Errors
    /// `InvalidArgument` with every fault.
    pub(super) fn finish<T>(self, read: T) -> Result<T> {
        self.faults.into_result(read)
    }

    fn cells(
        &self,
        column: pb::TypedColumn,
        defined: ValueType,
        blanks: Blanks,
    ) -> Result<Cells, Fault> {
        let held = held_type(&column, defined)?;
        let (field, found) = if is_list(held) {
            ("lengths", column.lengths.len())
        } else {
            (list_name(held), list_length(&column, held))
        };
        if found != self.row_count {
            let fault = format!(
                "has {found} rows, and {}[0] has {}",
                self.list, self.row_count
            );
            return Err((field.to_owned(), fault));
        }
        let marks = self.marks(&column, blanks)?;
        let cells = if let ValueType::List(element) = held {
            list_cells(column, element, &marks)?
        } else {
            scalar_cells(column, held, &marks)?
        };
        Ok(if held == defined {
            cells
        } else {
            widened(cells)
        })
    }

    /// What each row says.
    fn marks(&self, column: &pb::TypedColumn, blanks: Blanks) -> Result<Vec<Mark>, Fault> {
        let mut marks = vec![Mark::Given; self.row_count];
        let fields = [
            ("nullRows", &column.null_rows, Mark::Null),
            ("absentRows", &column.absent_rows, Mark::Absent),
        ];
        for (field, rows, mark) in fields {
            if blanks == Blanks::Refused && !rows.is_empty() {
                let fault = "a join key has a value in every row".to_owned();
                return Err((field.to_owned(), fault));
            }
            for (position, row) in rows.iter().enumerate() {
                let slot = usize::try_from(*row).ok();
                let slot = slot.and_then(|row| marks.get_mut(row));
                let fault = match slot {
                    None => format!("there is no row {row}; there are {}", self.row_count),
                    Some(Mark::Null) if mark == Mark::Absent => {
                        format!("row {row} is among nullRows, too")
                    }
                    Some(slot) => {
                        *slot = mark;
                        continue;
                    }
                };
                return Err((format!("{field}[{position}]"), fault));
            }
        }
        Ok(marks)
    }
}

/// How many rows a column seems to have, before its type is known.
fn claimed_rows(column: &pb::TypedColumn) -> usize {
    if !column.lengths.is_empty() {
        return column.lengths.len();
    }
    let scalars = ScalarType::ALL.into_iter().map(ScalarType::value_type);
    let lengths = scalars.map(|scalar| list_length(column, scalar));
    lengths.max().unwrap_or_default()
}

/// The type that a column's values have: the defined one, or 32-bit integers for 64-bit ones.
fn held_type(column: &pb::TypedColumn, defined: ValueType) -> Result<ValueType, Fault> {
    let is_narrow =
        defined == ValueType::Int64 && column.int64s.is_empty() && !column.int32s.is_empty();
    let told = pb::ValueType::try_from(column.r#type).map_err(|_| {
        let fault = format!("there is no type of the number {}", column.r#type);
        ("type".to_owned(), fault)
    })?;
    let told = if told != pb::ValueType::Unspecified {
        told
    } else if is_narrow {
        pb::ValueType::Int32
    } else {
        wire_type(defined)
    };
    let held = if told == wire_type(defined) {
        defined
    } else if told == pb::ValueType::Int32 && defined == ValueType::Int64 {
        ValueType::Int32
    } else {
        let defined = wire_type(defined).as_str_name();
        let fault = format!("is {}, where {defined} is defined", told.as_str_name());
        return Err(("type".to_owned(), fault));
    };
    let own = list_name(held);
    let scalars = ScalarType::ALL.into_iter().map(ScalarType::value_type);
    let foreign = scalars
        .filter(|scalar| list_length(column, *scalar) > 0)
        .map(list_name)
        .find(|name| *name != own);
    if let Some(foreign) = foreign {
        let fault = format!("has values, where a column of {held} has them in {own}");
        return Err((foreign.to_owned(), fault));
    }
    if !is_list(held) && !column.lengths.is_empty() {
        let fault = format!("a column of {held} has none");
        return Err(("lengths".to_owned(), fault));
    }
    Ok(held)
}

fn is_list(value_type: ValueType) -> bool {
    matches!(value_type, ValueType::List(_))
}

/// The list that holds values of a type, or the elements of a list of them.
fn list_name(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Bool | ValueType::List(ScalarType::Bool) => "bools",
        ValueType::Int32 | ValueType::List(ScalarType::Int32) => "int32s",
        ValueType::Int64 | ValueType::List(ScalarType::Int64) => "int64s",
        ValueType::Float | ValueType::List(ScalarType::Float) => "floats",
        ValueType::Double | ValueType::List(ScalarType::Double) => "doubles",
        ValueType::String | ValueType::List(ScalarType::String) => "strings",
        ValueType::Bytes | ValueType::List(ScalarType::Bytes) => "bytes",
        ValueType::Timestamp | ValueType::List(ScalarType::Timestamp) => "timestamps",
    }
}

/// How many values that list has.
fn list_length(column: &pb::TypedColumn, value_type: ValueType) -> usize {
    match value_type {
        ValueType::Bool | ValueType::List(ScalarType::Bool) => column.bools.len(),
        ValueType::Int32 | ValueType::List(ScalarType::Int32) => column.int32s.len(),
        ValueType::Int64 | ValueType::List(ScalarType::Int64) => column.int64s.len(),
        ValueType::Float | ValueType::List(ScalarType::Float) => column.floats.len(),
        ValueType::Double | ValueType::List(ScalarType::Double) => column.doubles.len(),
        ValueType::String | ValueType::List(ScalarType::String) => column.strings.len(),
        ValueType::Bytes | ValueType::List(ScalarType::Bytes) => column.bytes.len(),
        ValueType::Timestamp | ValueType::List(ScalarType::Timestamp) => column.timestamps.len(),
    }
}

fn scalar_cells(
    column: pb::TypedColumn,
    scalar: ValueType,
    marks: &[Mark],
) -> Result<Cells, Fault> {
    match scalar {
        ValueType::Bool => scalars(column.bools, marks, |v| Ok(Value::Bool(v))),
        ValueType::Int32 => scalars(column.int32s, marks, |v| Ok(Value::Int32(v))),
        ValueType::Int64 => scalars(column.int64s, marks, |v| Ok(Value::Int64(v))),
        ValueType::Float => scalars(column.floats, marks, |v| Ok(Value::Float(v))),
        ValueType::Double => scalars(column.doubles, marks, |v| Ok(Value::Double(v))),
        ValueType::String => scalars(column.strings, marks, |v| Ok(Value::String(v.into()))),
        ValueType::Bytes => scalars(column.bytes, marks, |v| Ok(Value::Bytes(v))),
        ValueType::Timestamp | ValueType::List(_) => scalars(column.timestamps, marks, |v| {
            timestamp(v).map(Value::Timestamp)
        }),
    }
}

fn scalars<T>(
    values: Vec<T>,
    marks: &[Mark],
    value: impl Fn(T) -> Result<Value, String>,
) -> Result<Cells, Fault> {
    let given = values.into_iter().zip(marks).enumerate();
    given
        .map(|(row, (given, mark))| cell(row, *mark, || value(given)))
        .collect()
}

fn list_cells(
    mut column: pb::TypedColumn,
    element: ScalarType,
    marks: &[Mark],
) -> Result<Cells, Fault> {
    let lengths = std::mem::take(&mut column.lengths);
    let total: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
    let value_type = ValueType::List(element);
    let found = list_length(&column, value_type);
    if usize::try_from(total) != Ok(found) {
        let name = list_name(value_type);
        let fault = format!("add up to {total}, and there are {found} {name}");
        return Err(("lengths".to_owned(), fault));
    }
    let rows = || lengths.iter().copied().zip(marks.iter().copied());
    match element {
        ScalarType::Bool => lists(column.bools, rows(), |v| Ok(ListValue::Bool(v))),
        ScalarType::Int32 => lists(column.int32s, rows(), |v| Ok(ListValue::Int32(v))),
        ScalarType::Int64 => lists(column.int64s, rows(), |v| Ok(ListValue::Int64(v))),
        ScalarType::Float => lists(column.floats, rows(), |v| Ok(ListValue::Float(v))),
        ScalarType::Double => lists(column.doubles, rows(), |v| Ok(ListValue::Double(v))),
        ScalarType::String => lists(column.strings, rows(), |v| Ok(ListValue::String(v))),
        ScalarType::Bytes => lists(column.bytes, rows(), |v| Ok(ListValue::Bytes(v))),
        ScalarType::Timestamp => lists(column.timestamps, rows(), |v| {
            let times: Result<Vec<Timestamp>, String> = v.into_iter().map(timestamp).collect();
            times.map(ListValue::Timestamp)
        }),
    }
}

fn lists<T>(
    elements: Vec<T>,
    rows: impl Iterator<Item = (u32, Mark)>,
    list: impl Fn(Vec<T>) -> Result<ListValue, String>,
) -> Result<Cells, Fault> {
    let mut elements = elements.into_iter();
    let cells = rows.enumerate().map(|(row, (length, mark))| {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let own: Vec<T> = elements.by_ref().take(length).collect();
        cell(row, mark, || list(own).map(Value::List))
    });
    cells.collect()
}

/// What stands in the place of a row without a value counts for nothing, whatever it is.
fn cell(
    row: usize,
    mark: Mark,
    value: impl FnOnce() -> Result<Value, String>,
) -> Result<Option<Value>, Fault> {
    match mark {
        Mark::Null => Ok(Some(Value::Null)),
        Mark::Absent => Ok(None),
        Mark::Given => match value() {
            Ok(value) => Ok(Some(value)),
            // Of all types only points in time do not take every value that the wire carries.
            Err(fault) => Err(("timestamps".to_owned(), format!("row {row}: {fault}"))),
        },
    }
}

fn timestamp(micros: i64) -> Result<Timestamp, String> {
    Timestamp::from_micros(micros).ok_or_else(|| {
        format!("{micros} microseconds since 1970 are not within the years 1 to 9999")
    })
}

/// 32-bit integers as 64-bit ones.
fn widened(cells: Cells) -> Cells {
    let wide = |value| {
        if let Value::Int32(value) = value {
            Value::Int64(i64::from(value))
        } else {
            value
        }
    };
    cells.into_iter().map(|cell| cell.map(wide)).collect()
}
