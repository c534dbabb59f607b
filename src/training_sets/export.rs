//! Rows as Parquet, for the join to read: the view's columns by their own names and types.

use std::{fs::File, path::Path, sync::Arc};

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
    builder::{
        BinaryBuilder, BooleanBuilder, Float32Builder, Float64Builder, Int32Builder, Int64Builder,
        ListBuilder, StringBuilder, TimestampMicrosecondBuilder,
    },
};
use arrow_schema::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};
use compact_str::CompactString;
use parquet::{arrow::ArrowWriter, errors::ParquetError, file::properties::WriterProperties};

use super::plan::{CREATED_AT, EVENT_TIMESTAMP, MISSING};
use crate::{
    catalog::{FeatureView, Field, ScalarType, ValueType},
    error::{Error, Result},
    features::{ListValue, Value, WriteRow},
};

/// Rows of a group of the file: the join reads it group by group.
const GROUP_ROWS_MAX: usize = 65_536;

/// A Parquet file of a view's rows, being written.
pub(super) struct RowFile<'a> {
    view: &'a FeatureView,
    shown: String,
    schema: SchemaRef,
    writer: ArrowWriter<File>,
}

impl<'a> RowFile<'a> {
    /// Makes the file.
    pub(super) fn create(path: &Path, view: &'a FeatureView) -> Result<RowFile<'a>> {
        let shown = path.display().to_string();
        let file = File::create(path).map_err(|fault| unwritable(&shown, fault))?;
        let schema = schema(view);
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(GROUP_ROWS_MAX))
            .build();
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties))
            .map_err(|fault| broken(&shown, fault))?;
        Ok(RowFile {
            view,
            shown,
            schema,
            writer,
        })
    }

    /// Adds rows.
    pub(super) fn write(&mut self, rows: &[WriteRow]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (position, field) in self.view.join_keys.iter().enumerate() {
            columns.push(column(field.value_type, rows, |write| {
                write.key.values().get(position)
            }));
        }
        columns.push(times(rows, |write| write.row.event_timestamp.micros()));
        columns.push(times(rows, |write| write.row.created_at.micros()));
        for (position, field) in self.view.features.iter().enumerate() {
            columns.push(column(field.value_type, rows, |write| {
                write.row.values.get(position)
            }));
        }
        columns.push(missing(&self.view.features, rows));
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|fault| Error::internal("rows that Arrow cannot hold").with_source(fault))?;
        self.writer
            .write(&batch)
            .map_err(|fault| broken(&self.shown, fault))
    }

    /// Ends the file.
    pub(super) fn finish(self) -> Result<()> {
        let closed = self.writer.close();
        closed
            .map(|_| ())
            .map_err(|fault| broken(&self.shown, fault))
    }
}

fn unwritable(shown: &str, fault: std::io::Error) -> Error {
    Error::failed_precondition(format!("{shown}: it cannot be written: {fault}")).with_source(fault)
}

fn broken(shown: &str, fault: ParquetError) -> Error {
    Error::failed_precondition(format!("{shown}: it cannot be written: {fault}")).with_source(fault)
}

fn schema(view: &FeatureView) -> SchemaRef {
    let typed = |field: &Field| ArrowField::new(&field.name, data_type(field.value_type), true);
    let time = |name: &str| ArrowField::new(name, scalar_type(ScalarType::Timestamp), false);
    let mut fields: Vec<ArrowField> = view.join_keys.iter().map(typed).collect();
    fields.push(time(EVENT_TIMESTAMP));
    fields.push(time(CREATED_AT));
    fields.extend(view.features.iter().map(typed));
    fields.push(ArrowField::new(
        MISSING,
        data_type(ValueType::List(ScalarType::String)),
        true,
    ));
    Arc::new(Schema::new(fields))
}

fn data_type(value_type: ValueType) -> DataType {
    match value_type {
        ValueType::Bool => scalar_type(ScalarType::Bool),
        ValueType::Int32 => scalar_type(ScalarType::Int32),
        ValueType::Int64 => scalar_type(ScalarType::Int64),
        ValueType::Float => scalar_type(ScalarType::Float),
        ValueType::Double => scalar_type(ScalarType::Double),
        ValueType::String => scalar_type(ScalarType::String),
        ValueType::Bytes => scalar_type(ScalarType::Bytes),
        ValueType::Timestamp => scalar_type(ScalarType::Timestamp),
        ValueType::List(element) => DataType::List(Arc::new(item(element))),
    }
}

fn scalar_type(scalar: ScalarType) -> DataType {
    match scalar {
        ScalarType::Bool => DataType::Boolean,
        ScalarType::Int32 => DataType::Int32,
        ScalarType::Int64 => DataType::Int64,
        ScalarType::Float => DataType::Float32,
        ScalarType::Double => DataType::Float64,
        ScalarType::String => DataType::Utf8,
        ScalarType::Bytes => DataType::Binary,
        ScalarType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

fn item(element: ScalarType) -> ArrowField {
    ArrowField::new("item", scalar_type(element), true)
}

fn times(rows: &[WriteRow], time: impl Fn(&WriteRow) -> i64) -> ArrayRef {
    let micros = rows.iter().map(|write| Some(time(write)));
    Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC"))
}

/// The features that each row says nothing about.
fn missing(features: &[Field], rows: &[WriteRow]) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(item(ScalarType::String));
    for write in rows {
        for (position, field) in features.iter().enumerate() {
            if write.row.feature_time(position).is_none() {
                builder.values().append_value(&field.name);
            }
        }
        builder.append(true);
    }
    Arc::new(builder.finish())
}

/// One column of some rows; what is not of the type is null.
fn column<'r>(
    value_type: ValueType,
    rows: &'r [WriteRow],
    cell: impl Fn(&'r WriteRow) -> Option<&'r Value>,
) -> ArrayRef {
    macro_rules! scalars {
        ($variant:ident, $array:ty, $convert:expr) => {
            rows.iter()
                .map(|write| match cell(write) {
                    Some(Value::$variant(value)) => Some($convert(value)),
                    _ => None,
                })
                .collect::<$array>()
        };
    }
    match value_type {
        ValueType::Bool => Arc::new(scalars!(Bool, BooleanArray, |value: &bool| *value)),
        ValueType::Int32 => Arc::new(scalars!(Int32, Int32Array, |value: &i32| *value)),
        ValueType::Int64 => Arc::new(scalars!(Int64, Int64Array, |value: &i64| *value)),
        ValueType::Float => Arc::new(scalars!(Float, Float32Array, |value: &f32| *value)),
        ValueType::Double => Arc::new(scalars!(Double, Float64Array, |value: &f64| *value)),
        ValueType::String => Arc::new(scalars!(String, StringArray, |value: &'r CompactString| {
            value.as_str()
        })),
        ValueType::Bytes => Arc::new(scalars!(Bytes, BinaryArray, Vec::as_slice)),
        ValueType::Timestamp => Arc::new(
            scalars!(
                Timestamp,
                TimestampMicrosecondArray,
                |value: &crate::features::Timestamp| value.micros()
            )
            .with_timezone("UTC"),
        ),
        ValueType::List(element) => lists(element, rows.iter().map(cell)),
    }
}

fn lists<'r>(element: ScalarType, cells: impl Iterator<Item = Option<&'r Value>>) -> ArrayRef {
    macro_rules! lists {
        ($variant:ident, $builder:expr) => {{
            let mut builder = ListBuilder::new($builder).with_field(item(element));
            for cell in cells {
                match cell {
                    Some(Value::List(ListValue::$variant(values))) => {
                        for value in values {
                            builder.values().append_value(value.to_owned());
                        }
                        builder.append(true);
                    }
                    _ => builder.append(false),
                }
            }
            Arc::new(builder.finish())
        }};
    }
    match element {
        ScalarType::Bool => lists!(Bool, BooleanBuilder::new()),
        ScalarType::Int32 => lists!(Int32, Int32Builder::new()),
        ScalarType::Int64 => lists!(Int64, Int64Builder::new()),
        ScalarType::Float => lists!(Float, Float32Builder::new()),
        ScalarType::Double => lists!(Double, Float64Builder::new()),
        ScalarType::String => lists!(String, StringBuilder::new()),
        ScalarType::Bytes => lists!(Bytes, BinaryBuilder::new()),
        ScalarType::Timestamp => {
            let mut builder =
                ListBuilder::new(TimestampMicrosecondBuilder::new().with_timezone("UTC"))
                    .with_field(item(element));
            for cell in cells {
                match cell {
                    Some(Value::List(ListValue::Timestamp(values))) => {
                        for value in values {
                            builder.values().append_value(value.micros());
                        }
                        builder.append(true);
                    }
                    _ => builder.append(false),
                }
            }
            Arc::new(builder.finish())
        }
    }
}
