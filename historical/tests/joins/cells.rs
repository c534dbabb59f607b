//! Cells of plain Rust, to columns of Arrow and back.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array,
    ListArray, StringArray, TimestampMicrosecondArray,
    cast::AsArray,
    types::{Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType},
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::Field;

/// One value. Floats are their bits, so that NaN equals NaN and -0 is not 0.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Float(u32),
    Double(u64),
    Text(String),
    Bytes(Vec<u8>),
    Time(i64),
    List(Vec<Cell>),
}

impl Cell {
    pub fn is_null(&self) -> bool {
        *self == Cell::Null
    }
}

pub const SCALARS: [&str; 8] = [
    "bool",
    "int32",
    "int64",
    "float",
    "double",
    "string",
    "bytes",
    "timestamp",
];

/// A column of a type as the plan names it.
pub fn column(value_type: &str, cells: &[Cell]) -> ArrayRef {
    if let Some(item) = value_type.strip_prefix("list<") {
        return list(item.trim_end_matches('>'), cells);
    }
    macro_rules! of {
        ($array:ty, $cell:pat => $value:expr) => {
            Arc::new(
                cells
                    .iter()
                    .map(|cell| match cell {
                        $cell => Some($value),
                        Cell::Null => None,
                        other => panic!("{other:?} in a column of {value_type}"),
                    })
                    .collect::<$array>(),
            )
        };
    }
    match value_type {
        "bool" => of!(BooleanArray, Cell::Bool(value) => *value),
        "int32" => of!(Int32Array, Cell::Int(value) => i32::try_from(*value).unwrap()),
        "int64" => of!(Int64Array, Cell::Int(value) => *value),
        "float" => of!(Float32Array, Cell::Float(bits) => f32::from_bits(*bits)),
        "double" => of!(Float64Array, Cell::Double(bits) => f64::from_bits(*bits)),
        "string" => of!(StringArray, Cell::Text(text) => text.as_str()),
        "bytes" => of!(BinaryArray, Cell::Bytes(bytes) => bytes.as_slice()),
        "timestamp" => of!(TimestampMicrosecondArray, Cell::Time(micros) => *micros),
        other => panic!("{other} is no type"),
    }
}

fn list(item: &str, cells: &[Cell]) -> ArrayRef {
    let mut items = Vec::new();
    let mut lengths = Vec::new();
    for cell in cells {
        let before = items.len();
        if let Cell::List(own) = cell {
            items.extend(own.iter().cloned());
        }
        lengths.push(items.len() - before);
    }
    let items = column(item, &items);
    let nulls: NullBuffer = cells.iter().map(|cell| !cell.is_null()).collect();
    let field = Arc::new(Field::new("item", items.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(lengths);
    Arc::new(ListArray::new(field, offsets, items, Some(nulls)))
}

/// The cells of a column, which must be of the Arrow type that the declared one becomes.
pub fn cells(value_type: &str, array: &ArrayRef) -> Vec<Cell> {
    if let Some(item) = value_type.strip_prefix("list<") {
        let lists = array.as_list::<i32>().iter();
        let of_list = |list| Cell::List(cells(item.trim_end_matches('>'), &list));
        return lists.map(|list| list.map_or(Cell::Null, of_list)).collect();
    }
    macro_rules! of {
        ($array:expr, $value:ident => $cell:expr) => {
            $array
                .iter()
                .map(|cell| cell.map_or(Cell::Null, |$value| $cell))
                .collect()
        };
    }
    match value_type {
        "bool" => of!(array.as_boolean(), value => Cell::Bool(value)),
        "int32" => of!(array.as_primitive::<Int32Type>(), value => Cell::Int(value.into())),
        "int64" => of!(array.as_primitive::<Int64Type>(), value => Cell::Int(value)),
        "float" => of!(array.as_primitive::<Float32Type>(), value => Cell::Float(value.to_bits())),
        "double" => {
            of!(array.as_primitive::<Float64Type>(), value => Cell::Double(value.to_bits()))
        }
        "string" => of!(array.as_string::<i32>(), text => Cell::Text(text.to_owned())),
        "bytes" => of!(array.as_binary::<i32>(), bytes => Cell::Bytes(bytes.to_vec())),
        "timestamp" => {
            let zone = array.as_primitive::<TimestampMicrosecondType>().timezone();
            assert_eq!(zone, Some("UTC"));
            of!(array.as_primitive::<TimestampMicrosecondType>(), micros => Cell::Time(micros))
        }
        other => panic!("{other} is no type"),
    }
}
