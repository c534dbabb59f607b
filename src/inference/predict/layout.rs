//! Laying out rows for a version, cell by cell, under its inputs' policies; the same for every form that rows come in.

use std::collections::{BTreeMap, HashMap};

use crate::{
    error::{Error, Result, Violations},
    features::{
        FeatureStatus, FeatureTable, FeatureValue, RawRow, RawValue, Timestamp, Value,
        request_faults,
    },
    inference::{
        Batch, ReadyVersion,
        layout::dense_value,
        policy::{Admitted, InputViolation},
    },
};

/// Rows laid out for a version.
pub(super) struct LaidOut {
    pub(super) batch: Batch,
    pub(super) violations: Vec<InputViolation>,
    /// Where each value is counted, once the rows are scored.
    pub(super) slots: Vec<usize>,
    /// The rows that cannot be scored, each with the first value that a policy refuses.
    pub(super) refused: BTreeMap<usize, String>,
}

impl LaidOut {
    /// So many rows, nothing in them yet.
    pub(super) fn empty(version: &ReadyVersion, rows: usize) -> LaidOut {
        LaidOut {
            batch: version.layout.empty_batch(rows),
            violations: Vec::new(),
            slots: Vec::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Itself, where every row can be scored.
    ///
    /// # Errors
    /// `FailedPrecondition` naming the first value that a policy refuses.
    pub(super) fn whole(mut self) -> Result<LaidOut> {
        match self.refused.pop_first() {
            Some((_, refused)) => Err(Error::failed_precondition(refused)),
            None => Ok(self),
        }
    }
}

/// A batch that is being filled. Remembers every value that has the wrong type.
struct Filler<'a> {
    version: &'a ReadyVersion,
    laid_out: LaidOut,
    faults: Violations,
}

impl<'a> Filler<'a> {
    fn new(version: &'a ReadyVersion, rows: usize) -> Filler<'a> {
        Filler {
            version,
            laid_out: LaidOut::empty(version, rows),
            faults: request_faults(),
        }
    }

    /// Puts a value in its place, as its input's policy says. `why`: what a missing value is said to be; `place`: what
    /// messages call the cell.
    fn put(
        &mut self,
        (row, input): (usize, usize),
        value: &Value,
        why: &str,
        is_too_old: bool,
        place: impl Fn() -> String,
    ) -> Result<(), String> {
        let version = self.version;
        let bound = version
            .inputs
            .get(input)
            .ok_or("the model has no such input")?;
        let (admitted, kind) = match bound.admit(value, is_too_old) {
            Ok(admitted) => admitted,
            Err(fault) => {
                self.refuse(row, || refusal(&place(), value, why, &fault));
                return Ok(());
            }
        };
        let is_defaulted =
            matches!(admitted, Admitted::Value(given) if !std::ptr::eq(given, value));
        if let Some(kind) = kind {
            self.laid_out.violations.push(InputViolation {
                row,
                input,
                kind,
                is_defaulted,
            });
        }
        // A default hides from the model what came, and not from drift: what was missing is missing there.
        let served = match admitted {
            Admitted::Value(_) => value,
            Admitted::Missing => &Value::Null,
        };
        let slot = version.drift.slot(input, served);
        self.laid_out.slots.extend(slot);
        match admitted {
            Admitted::Value(value) => {
                version
                    .layout
                    .set(&mut self.laid_out.batch, row, input, value)
            }
            Admitted::Missing if version.layout.knows_missing(input) => Ok(()),
            Admitted::Missing => {
                let fault = "its tensor in the model knows no missing value";
                self.refuse(row, || refusal(&place(), &Value::Null, why, fault));
                Ok(())
            }
        }
    }

    fn refuse(&mut self, row: usize, told: impl Fn() -> String) {
        self.laid_out.refused.entry(row).or_insert_with(told);
    }

    /// What cannot be read goes before what a policy refuses.
    fn finish(self) -> Result<LaidOut> {
        self.faults.into_result(self.laid_out)
    }
}

fn refusal(place: &str, value: &Value, why: &str, fault: &str) -> String {
    if value.is_missing() {
        format!("{place} is {why}, and {fault}")
    } else {
        format!("{place}: {fault}")
    }
}

/// Lays out rows that the request brings, those at some positions of it.
pub(super) fn lay_out_rows(
    version: &ReadyVersion,
    rows: &[RawRow],
    positions: &[usize],
) -> Result<LaidOut> {
    let inputs = &version.signature.inputs;
    let by_name: HashMap<&str, usize> = inputs
        .iter()
        .enumerate()
        .map(|(position, input)| (input.name.as_str(), position))
        .collect();
    let mut filler = Filler::new(version, positions.len());
    let mut is_given = vec![false; inputs.len()];
    for (row, index) in positions.iter().enumerate() {
        let Some(raw) = rows.get(*index) else {
            continue;
        };
        is_given.fill(false);
        for (name, raw) in &raw.fields {
            if filler.faults.is_full() {
                break;
            }
            let place = || format!("rows[{index}].{name}");
            let set = match by_name.get(name.as_str()) {
                None => Err("the model has no such input".to_owned()),
                Some(position) => {
                    if let Some(given) = is_given.get_mut(*position) {
                        *given = true;
                    }
                    typed(version, *position, raw).and_then(|value| {
                        filler.put((row, *position), &value, "missing", false, place)
                    })
                }
            };
            if let Err(fault) = set {
                filler.faults.add(place(), fault);
            }
        }
        for (position, input) in inputs.iter().enumerate() {
            if is_given.get(position) == Some(&true) {
                continue;
            }
            let place = || format!("rows[{index}].{}", input.name);
            if let Err(fault) = filler.put((row, position), &Value::Null, "missing", false, place) {
                filler.faults.add(place(), fault);
            }
        }
    }
    filler.laid_out.violations.sort_by_key(|v| (v.row, v.input));
    filler.finish()
}

fn typed(version: &ReadyVersion, position: usize, raw: &RawValue) -> Result<Value, String> {
    let input = version.signature.inputs.get(position);
    let input = input.ok_or("the model has no such input")?;
    let value = raw.to_value(input.value_type)?;
    if let (RawValue::Text(text), Value::Float(_) | Value::Double(_)) = (raw, &value) {
        return Err(format!(
            "{text} is refused here; send null, or leave the key out, for a missing value"
        ));
    }
    Ok(value)
}

/// Lays out packed numbers, row after row in the order of the signature: the rows at some positions.
pub(super) fn lay_out_dense(
    version: &ReadyVersion,
    values: &[f32],
    positions: &[usize],
) -> Result<LaidOut> {
    let inputs = &version.signature.inputs;
    let columns = inputs.len();
    let mut filler = Filler::new(version, positions.len());
    for (row, index) in positions.iter().enumerate() {
        let cells = values.iter().skip(index * columns).take(columns);
        for (position, (number, input)) in cells.zip(inputs).enumerate() {
            if filler.faults.is_full() {
                break;
            }
            let at = index * columns + position;
            let place = || format!("dense.values[{at}] (row {index}, {})", input.name);
            let set = dense_value(input, *number)
                .and_then(|value| filler.put((row, position), &value, "missing", false, place));
            if let Err(fault) = set {
                filler.faults.add(place(), fault);
            }
        }
    }
    filler.finish()
}

/// Lays out stored features: a column an input. `positions` has the place of each in the request.
pub(super) fn lay_out_features(
    version: &ReadyVersion,
    features: &FeatureTable,
    positions: &[usize],
) -> Result<LaidOut> {
    let mut filler = Filler::new(version, positions.len());
    for (position, bound) in version.inputs.iter().enumerate() {
        for (row, feature) in features.column(position).iter().enumerate() {
            let index = positions.get(row).copied().unwrap_or(row);
            let place = || format!("entities[{index}]: the feature {}", bound.feature);
            let is_too_old = feature.status == FeatureStatus::OutsideTtl;
            let cell = (row, position);
            filler
                .put(cell, &feature.value, describe(feature), is_too_old, place)
                .map_err(|fault| Error::failed_precondition(format!("{}: {fault}", place())))?;
        }
    }
    filler.laid_out.violations.sort_by_key(|v| (v.row, v.input));
    filler.finish()
}

/// Takes out what is older than an input allows, as what is older than a TTL was.
pub(super) fn leave_out_old(version: &ReadyVersion, features: &mut FeatureTable, now: Timestamp) {
    for (position, bound) in version.inputs.iter().enumerate() {
        let Some(max_age) = bound.max_age else {
            continue;
        };
        for feature in features.column_mut(position) {
            let is_old = feature
                .event_timestamp
                .is_some_and(|event| now.has_aged(event, max_age));
            if is_old {
                feature.value = Value::Null;
                feature.status = FeatureStatus::OutsideTtl;
            }
        }
    }
}

fn describe(feature: &FeatureValue) -> &'static str {
    match feature.status {
        FeatureStatus::Present => "NaN",
        FeatureStatus::Null => "null",
        FeatureStatus::NotFound => "not found",
        FeatureStatus::OutsideTtl => "older than its view's TTL or the model's input allows",
    }
}
