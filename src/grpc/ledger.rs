//! Predictions of the ledger as the wire tells them.

use std::collections::HashMap;

use prost_types::{Struct, Value as WireValue, value::Kind};
use uuid::Uuid;

use super::{
    convert::{wire_duration, wire_status, wire_timestamp, wire_value},
    model_service::wire_kind,
    pb,
};
use crate::{
    error::{Error, Result},
    features::{RawValue, Value},
    inference::{Ledger, LedgerEntry, Output, Replay, Role},
};

/// The id of a request.
///
/// # Errors
/// `InvalidArgument` where it is none.
pub(super) fn prediction_id(text: &str) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| {
        Error::invalid(
            "predictionId",
            "expected a UUID, as the prediction was answered with",
        )
    })
}

/// A prediction of the ledger.
pub(super) fn wire_recorded(entry: &LedgerEntry) -> pb::RecordedPrediction {
    let version = &entry.version;
    let role = match entry.role {
        Role::Answer => pb::recorded_prediction::Role::Answer,
        Role::Shadow => pb::recorded_prediction::Role::Shadow,
    };
    pb::RecordedPrediction {
        prediction_id: entry.id.to_string(),
        time: Some(wire_timestamp(entry.at)),
        latency: wire_duration(entry.latency),
        model: version.model.clone(),
        version: version.version.clone(),
        digest: version.digest.clone(),
        role: role.into(),
        entity: (!entry.entity.is_empty()).then(|| wire_entity(&entry.entity)),
        inputs: wire_inputs(entry),
        violations: wire_violations(entry),
        score: entry.score,
        label: entry.label().to_owned(),
        probabilities: by_class(&version.classes, &entry.outputs),
        outputs: numbers(&entry.outputs),
    }
}

/// What was said then, and what is said now.
pub(super) fn wire_replay(replay: &Replay) -> pb::ReplayPredictionResponse {
    let signature = &replay.version.signature;
    pb::ReplayPredictionResponse {
        recorded: Some(wire_recorded(&replay.entry)),
        version: signature.version.clone(),
        digest: signature.sha256.to_ascii_lowercase(),
        same_version: replay.is_same_version,
        identical: replay.is_identical,
        score: replay.score,
        score_difference: replay.score_difference(),
        label: replay.label().to_owned(),
        label_changed: replay.label() != replay.entry.label(),
        probabilities: by_class(&signature.classes, &replay.outputs),
        outputs: numbers(&replay.outputs),
        missing_inputs: replay.missing_inputs.clone(),
        unused_inputs: replay.unused_inputs.clone(),
    }
}

/// The counters.
pub(super) fn wire_status_of(ledger: &Ledger) -> pb::LedgerStatus {
    let status = ledger.status();
    pb::LedgerStatus {
        enabled: ledger.options().is_enabled,
        written: status.written,
        queued: status.queued,
        queued_bytes: status.queued_bytes,
        not_sampled: status.not_sampled,
        dropped_full: status.dropped_full,
        dropped_away: status.dropped_away,
        dropped_refused: status.dropped_refused,
    }
}

fn wire_inputs(entry: &LedgerEntry) -> Vec<pb::RecordedInput> {
    let inputs = entry.version.inputs.iter().zip(&entry.values);
    inputs
        .map(|(input, recorded)| pb::RecordedInput {
            name: input.name.clone(),
            value: Some(wire_value(input.shown(&recorded.value).into_owned())),
            feature: match recorded.status {
                Some(_) => input.feature.clone(),
                None => String::new(),
            },
            status: recorded.status.map(wire_status).unwrap_or_default().into(),
            event_timestamp: recorded.event_timestamp.map(wire_timestamp),
        })
        .collect()
}

fn wire_violations(entry: &LedgerEntry) -> Vec<pb::InputViolation> {
    let inputs = &entry.version.inputs;
    let violations = entry.violations.iter();
    violations
        .map(|violation| pb::InputViolation {
            input: inputs
                .get(violation.input)
                .map_or_else(String::new, |input| input.name.clone()),
            kind: wire_kind(violation.kind).into(),
            defaulted: violation.is_defaulted,
        })
        .collect()
}

fn by_class(classes: &[String], outputs: &Output) -> HashMap<String, f64> {
    classes.iter().cloned().zip(numbers(outputs)).collect()
}

fn numbers(outputs: &Output) -> Vec<f64> {
    (0..outputs.len())
        .filter_map(|at| outputs.get(at))
        .collect()
}

fn wire_entity(entity: &[(String, RawValue)]) -> Struct {
    let fields = entity.iter();
    Struct {
        fields: fields
            .map(|(name, value)| (name.clone(), wire_raw(value)))
            .collect(),
    }
}

fn wire_raw(value: &RawValue) -> WireValue {
    match value {
        RawValue::Null | RawValue::Object => wire_value(Value::Null),
        RawValue::Bool(value) => wire_value(Value::Bool(*value)),
        RawValue::Number(number) => wire_value(Value::Double(*number)),
        RawValue::Text(text) => wire_value(Value::String(text.into())),
        RawValue::List(values) => WireValue {
            kind: Some(Kind::ListValue(prost_types::ListValue {
                values: values.iter().map(wire_raw).collect(),
            })),
        },
    }
}
