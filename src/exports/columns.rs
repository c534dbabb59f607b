//! The columns of exported predictions: those that all models share, then the inputs, a column each where they are one
//! model's, else together as JSON.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use arrow_array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
    builder::{Float64Builder, ListBuilder, StringBuilder},
};
use arrow_schema::{DataType, Field, TimeUnit};
use serde_json::{Map, Value as Json};

use crate::{
    features::{FeatureStatus, RawValue, Value, widen},
    inference::{
        LedgerEntry, RecordedInput, RecordedValue, RecordedVersion, Role, TensorType, ViolationKind,
    },
};

/// One column.
pub(super) struct Column {
    name: String,
    content: Content,
}

/// What is in a column.
#[derive(Clone, Copy)]
enum Content {
    Id,
    Time,
    LatencyMicros,
    Model,
    Version,
    Digest,
    Role,
    /// As JSON, join key to value.
    Entity,
    Score,
    Label,
    Outputs,
    /// Each as `input:KIND`.
    Violations,
    /// All as JSON, input to value.
    Inputs,
    /// All as JSON, input to status.
    Statuses,
    /// Of the input that the name ends with.
    Input(TensorType),
    Status,
    EventTimestamp,
}

/// An input, and what was recorded of it.
type Recorded<'a> = (&'a RecordedInput, &'a RecordedValue);

const INPUT: &str = "input_";
const STATUS: &str = "status_";
const EVENT_TIMESTAMP: &str = "event_timestamp_";

/// The columns of predictions of any model.
pub(super) fn columns_of() -> Vec<Column> {
    let inputs = [
        Column::new("inputs", Content::Inputs),
        Column::new("statuses", Content::Statuses),
    ];
    common().into_iter().chain(inputs).collect()
}

/// The columns of predictions of one model, by all its versions. An input that is of two types is a double where both are
/// numbers, else a text.
pub(super) fn columns_of_model(versions: &[Arc<RecordedVersion>]) -> Vec<Column> {
    let mut types: BTreeMap<&str, TensorType> = BTreeMap::new();
    let mut names = Vec::new();
    for input in versions.iter().flat_map(|version| &version.inputs) {
        let known = types.get(input.name.as_str()).copied();
        if known.is_none() {
            names.push(input.name.as_str());
        }
        let shown = input.shown_type();
        let both = known.map_or(shown, |known| wider(known, shown));
        types.insert(&input.name, both);
    }
    let mut columns = common();
    for name in &names {
        let tensor_type = types.get(name).copied().unwrap_or(TensorType::String);
        let content = Content::Input(tensor_type);
        columns.push(Column::new(format!("{INPUT}{name}"), content));
    }
    for name in &names {
        columns.push(Column::new(format!("{STATUS}{name}"), Content::Status));
    }
    for name in &names {
        let name = format!("{EVENT_TIMESTAMP}{name}");
        columns.push(Column::new(name, Content::EventTimestamp));
    }
    columns
}

fn common() -> Vec<Column> {
    vec![
        Column::new("prediction_id", Content::Id),
        Column::new("time", Content::Time),
        Column::new("latency_us", Content::LatencyMicros),
        Column::new("model", Content::Model),
        Column::new("version", Content::Version),
        Column::new("digest", Content::Digest),
        Column::new("role", Content::Role),
        Column::new("entity", Content::Entity),
        Column::new("score", Content::Score),
        Column::new("label", Content::Label),
        Column::new("outputs", Content::Outputs),
        Column::new("violations", Content::Violations),
    ]
}

fn wider(one: TensorType, other: TensorType) -> TensorType {
    match (one, other) {
        (one, other) if one == other => one,
        (TensorType::String, _) | (_, TensorType::String) => TensorType::String,
        (TensorType::Float | TensorType::Double | TensorType::Int64 | TensorType::Bool, _) => {
            TensorType::Double
        }
    }
}

impl Column {
    fn new(name: impl Into<String>, content: Content) -> Column {
        Column {
            name: name.into(),
            content,
        }
    }

    /// The column's name and type.
    pub(super) fn field(&self) -> Field {
        let (data_type, is_nullable) = match self.content {
            Content::Id | Content::Model | Content::Version | Content::Digest | Content::Role => {
                (DataType::Utf8, false)
            }
            Content::Entity | Content::Label | Content::Statuses | Content::Status => {
                (DataType::Utf8, true)
            }
            Content::Inputs => (DataType::Utf8, false),
            Content::Time => (time_type(), false),
            Content::EventTimestamp => (time_type(), true),
            Content::LatencyMicros => (DataType::Int64, false),
            Content::Score => (DataType::Float64, false),
            Content::Outputs => (list_of(DataType::Float64), false),
            Content::Violations => (list_of(DataType::Utf8), false),
            Content::Input(tensor_type) => (type_of(tensor_type), true),
        };
        Field::new(&self.name, data_type, is_nullable)
    }

    /// The cells of some predictions.
    pub(super) fn array(&self, entries: &[LedgerEntry]) -> ArrayRef {
        match self.content {
            Content::Id => texts(entries, |entry| Some(entry.id.to_string())),
            Content::Time => times(entries, |entry| Some(entry.at.micros())),
            Content::LatencyMicros => Arc::new(Int64Array::from_iter_values(
                entries.iter().map(latency_micros),
            )),
            Content::Model => texts(entries, |entry| Some(entry.version.model.clone())),
            Content::Version => texts(entries, |entry| Some(entry.version.version.clone())),
            Content::Digest => texts(entries, |entry| Some(entry.version.digest.clone())),
            Content::Role => texts(entries, |entry| Some(role_name(entry.role).to_owned())),
            Content::Entity => texts(entries, entity),
            Content::Score => Arc::new(Float64Array::from_iter_values(
                entries.iter().map(|entry| entry.score),
            )),
            Content::Label => texts(entries, |entry| {
                entry.label.map(|_| entry.label().to_owned())
            }),
            Content::Outputs => outputs(entries),
            Content::Violations => violations(entries),
            Content::Inputs => texts(entries, |entry| {
                Some(all_as_json(entry, |input, recorded| {
                    Some(json_of(&input.shown(&recorded.value)))
                }))
            }),
            Content::Statuses => texts(entries, |entry| {
                let has_statuses = entry.values.iter().any(|value| value.status.is_some());
                has_statuses.then(|| {
                    all_as_json(entry, |_, recorded| {
                        Some(status_name(recorded.status?).into())
                    })
                })
            }),
            Content::Input(tensor_type) => {
                inputs(tensor_type, self.values(entries, INPUT).collect())
            }
            Content::Status => Arc::new(
                self.values(entries, STATUS)
                    .map(|found| Some(status_name(found?.1.status?)))
                    .collect::<StringArray>(),
            ),
            Content::EventTimestamp => {
                let times = self.values(entries, EVENT_TIMESTAMP);
                let micros = times.map(|found| Some(found?.1.event_timestamp?.micros()));
                Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC"))
            }
        }
    }

    /// What each prediction has of the input that the column is of.
    fn values<'a>(
        &'a self,
        entries: &'a [LedgerEntry],
        prefix: &'a str,
    ) -> impl Iterator<Item = Option<Recorded<'a>>> {
        let name = self.name.strip_prefix(prefix).unwrap_or_default();
        entries.iter().map(move |entry| {
            let mut recorded = entry.version.inputs.iter().zip(&entry.values);
            recorded.find(|(input, _)| input.name == name)
        })
    }
}

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn list_of(data_type: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", data_type, true)))
}

fn type_of(tensor_type: TensorType) -> DataType {
    match tensor_type {
        TensorType::Float => DataType::Float32,
        TensorType::Double => DataType::Float64,
        TensorType::Int64 => DataType::Int64,
        TensorType::String => DataType::Utf8,
        TensorType::Bool => DataType::Boolean,
    }
}

fn texts(entries: &[LedgerEntry], text: impl Fn(&LedgerEntry) -> Option<String>) -> ArrayRef {
    Arc::new(entries.iter().map(text).collect::<StringArray>())
}

fn times(entries: &[LedgerEntry], micros: impl Fn(&LedgerEntry) -> Option<i64>) -> ArrayRef {
    let micros = entries.iter().map(micros);
    Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC"))
}

fn latency_micros(entry: &LedgerEntry) -> i64 {
    i64::try_from(entry.latency.as_micros()).unwrap_or(i64::MAX)
}

fn outputs(entries: &[LedgerEntry]) -> ArrayRef {
    let mut lists = ListBuilder::new(Float64Builder::new());
    for entry in entries {
        let numbers = (0..entry.outputs.len()).filter_map(|at| entry.outputs.get(at));
        lists.append_value(numbers.map(Some));
    }
    Arc::new(lists.finish())
}

fn violations(entries: &[LedgerEntry]) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for entry in entries {
        for violation in &entry.violations {
            let input = entry.version.inputs.get(violation.input);
            let name = input.map_or("", |input| input.name.as_str());
            let kind = kind_name(violation.kind);
            lists.values().append_value(format!("{name}:{kind}"));
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}

fn inputs(tensor_type: TensorType, cells: Vec<Option<Recorded<'_>>>) -> ArrayRef {
    let shown = cells.into_iter().map(|cell| match cell {
        Some((input, recorded)) => input.shown(&recorded.value),
        None => Cow::Owned(Value::Null),
    });
    let shown: Vec<Cow<'_, Value>> = shown.collect();
    let values = shown.iter().map(AsRef::as_ref);
    // The cells that are of the column's own type: all but null.
    macro_rules! of {
        ($variant:ident, $array:ty) => {
            Arc::new(
                values
                    .map(|value| match Some(value) {
                        Some(Value::$variant(value)) => Some(*value),
                        _ => None,
                    })
                    .collect::<$array>(),
            )
        };
    }
    match tensor_type {
        TensorType::Float => of!(Float, Float32Array),
        TensorType::Double => Arc::new(values.map(number).collect::<Float64Array>()),
        TensorType::Int64 => of!(Int64, Int64Array),
        TensorType::Bool => of!(Bool, BooleanArray),
        TensorType::String => Arc::new(values.map(text).collect::<StringArray>()),
    }
}

fn text(value: &Value) -> Option<String> {
    if let Value::String(text) = value {
        return Some(text.to_string());
    }
    // Of another version, in which the input is no text.
    (!value.is_null()).then(|| value.to_string())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "only where versions differ in the type of an input"
)]
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Double(number) => Some(*number),
        Value::Float(number) => Some(widen(*number)),
        Value::Int64(number) => Some(*number as f64),
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::Null
        | Value::Int32(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Timestamp(_)
        | Value::List(_) => None,
    }
}

fn entity(entry: &LedgerEntry) -> Option<String> {
    if entry.entity.is_empty() {
        return None;
    }
    let fields = entry.entity.iter();
    let fields: Map<String, Json> = fields
        .map(|(name, value)| (name.clone(), value.to_json()))
        .collect();
    Some(Json::Object(fields).to_string())
}

/// Something of every input, as JSON.
fn all_as_json(
    entry: &LedgerEntry,
    of: impl Fn(&RecordedInput, &RecordedValue) -> Option<Json>,
) -> String {
    let inputs = entry.version.inputs.iter().zip(&entry.values);
    let fields: Map<String, Json> = inputs
        .filter_map(|(input, recorded)| Some((input.name.clone(), of(input, recorded)?)))
        .collect();
    Json::Object(fields).to_string()
}

/// A value as JSON: a 32-bit float as it would be written, what JSON has no number for as text.
fn json_of(value: &Value) -> Json {
    match value {
        Value::Int64(number) => (*number).into(),
        Value::Bool(value) => (*value).into(),
        Value::String(text) => text.as_str().into(),
        Value::Float(_) | Value::Double(_) => {
            RawValue::Number(number(value).unwrap_or(f64::NAN)).to_json()
        }
        Value::Null | Value::Int32(_) | Value::Bytes(_) | Value::Timestamp(_) | Value::List(_) => {
            Json::Null
        }
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Answer => "ANSWER",
        Role::Shadow => "SHADOW",
    }
}

fn status_name(status: FeatureStatus) -> &'static str {
    match status {
        FeatureStatus::Present => "PRESENT",
        FeatureStatus::Null => "NULL",
        FeatureStatus::NotFound => "NOT_FOUND",
        FeatureStatus::OutsideTtl => "OUTSIDE_TTL",
    }
}

fn kind_name(kind: ViolationKind) -> &'static str {
    match kind {
        ViolationKind::Missing => "MISSING",
        ViolationKind::TooOld => "TOO_OLD",
        ViolationKind::OutOfRange => "OUT_OF_RANGE",
        ViolationKind::UnknownCategory => "UNKNOWN_CATEGORY",
    }
}
