//! Prediction: the one place where a request for scores branches.

use std::{collections::HashMap, sync::Arc};

use uuid::Uuid;

use super::{
    Batch, Model, ModelRegistry, Output, Policy, ReadyVersion, Signature, batch::dense_value,
};
use crate::{
    catalog::CatalogHandle,
    error::{Error, Result},
    features::{
        FeatureColumn, FeatureSelection, FeatureStatus, FeatureValue, Freshness, OnlineStore,
        RawRow, RawValue, Value, check_values, entity_keys, read_features, request_faults,
    },
};

/// Which model, and which version of it: a version, an alias, or empty for the default.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The version or alias.
    pub version: &'a str,
}

/// The scores of one request.
#[derive(Debug)]
pub struct Predictions {
    /// The version that scored.
    pub version: String,
    /// The version itself, for the names of its classes and inputs.
    pub ready: Arc<ReadyVersion>,
    /// One a row or entity, in the request's order.
    pub predictions: Vec<Prediction>,
    /// The feature columns that were used, in the order of the inputs; none where rows came with the request.
    pub features: Option<Vec<FeatureColumn>>,
}

/// The score of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Names it.
    pub id: Uuid,
    /// The probability of the positive class.
    pub score: f64,
    /// Whether the score reaches the version's threshold.
    pub is_positive: bool,
    /// The probability of each class, in the signature's order.
    pub probabilities: Vec<f64>,
}

/// Scores rows and entities.
pub struct Predictor {
    /// What is defined.
    pub catalog: Arc<CatalogHandle>,
    /// Where the features are.
    pub store: Arc<dyn OnlineStore>,
    /// What is loaded.
    pub models: Arc<ModelRegistry>,
    /// Values a request: rows or entities times inputs.
    pub values_max: usize,
    /// Bytes of the features that one request reads.
    pub answer_bytes_max: usize,
}

impl Predictor {
    /// Scores rows that the request brings.
    ///
    /// # Errors
    /// As `Model::resolve`; `InvalidArgument` naming row and key; `FailedPrecondition` naming the input whose missing
    /// value the model rejects; `Overloaded` where the model's queue is full.
    pub async fn predict_rows(&self, target: Target<'_>, rows: &[RawRow]) -> Result<Predictions> {
        let (version, ready, _) = self.resolve(target)?;
        self.check_values("rows", rows.len(), &ready)?;
        let batch = batch_of_rows(&ready, rows)?;
        score(version, ready, batch, None).await
    }

    /// Scores packed numbers, row after row in the signature's order.
    ///
    /// # Errors
    /// As `predict_rows`.
    pub async fn predict_dense(
        &self,
        target: Target<'_>,
        values: &[f32],
        row_count: usize,
    ) -> Result<Predictions> {
        let (version, ready, _) = self.resolve(target)?;
        self.check_values("dense.rowCount", row_count, &ready)?;
        let batch = batch_of_dense(&ready, values, row_count)?;
        score(version, ready, batch, None).await
    }

    /// Scores entities from their stored features.
    ///
    /// # Errors
    /// As `predict_rows`; `NotFound` for an entity that no view has, where the model rejects that; `Unavailable` where
    /// the store is away.
    pub async fn predict_by_entity(
        &self,
        target: Target<'_>,
        entities: &[RawRow],
    ) -> Result<Predictions> {
        let (version, ready, model) = self.resolve(target)?;
        self.check_values("entities", entities.len(), &ready)?;
        let catalog = self.catalog.snapshot();
        let references = ready.inputs.iter().map(|i| i.feature.clone()).collect();
        let selection = FeatureSelection::resolve(&catalog, references)?;
        let keys = entity_keys(&selection, entities)?;
        let bytes_max = self.answer_bytes_max;
        let store = self.store.as_ref();
        let columns = read_features(store, &selection, &keys, Freshness::now(), bytes_max).await?;
        if model.entity_not_found == Policy::Reject {
            refuse_unknown_entities(&columns, entities)?;
        }
        let batch = batch_of_columns(&ready, &columns, entities.len())?;
        score(version, ready, batch, Some(columns)).await
    }

    fn check_values(&self, field: &str, rows: usize, ready: &ReadyVersion) -> Result<()> {
        check_values(field, rows, ready.inputs.len(), self.values_max)
    }

    fn resolve(&self, target: Target<'_>) -> Result<(String, Arc<ReadyVersion>, Arc<Model>)> {
        let model = self.models.model(target.model)?;
        let (version, ready) = model.resolve(target.version)?;
        Ok((version.to_owned(), Arc::clone(ready), Arc::clone(&model)))
    }
}

/// Lays out rows that the request brings.
fn batch_of_rows(ready: &ReadyVersion, rows: &[RawRow]) -> Result<Batch> {
    let inputs = &ready.signature.inputs;
    let positions: HashMap<&str, usize> = inputs
        .iter()
        .enumerate()
        .map(|(position, input)| (input.name.as_str(), position))
        .collect();
    let mut faults = request_faults();
    let mut missing = None;
    let mut batch = ready.layout.empty_batch(rows.len());
    for (index, row) in rows.iter().enumerate() {
        let mut is_given = vec![false; inputs.len()];
        for (name, raw) in &row.fields {
            if faults.is_full() {
                break;
            }
            let set = match positions.get(name.as_str()) {
                Some(position) => set_raw(ready, &mut batch, (index, *position), raw)
                    .map(|has_value| mark(&mut is_given, *position, has_value)),
                None => Err("the model has no such input".to_owned()),
            };
            if let Err(fault) = set {
                faults.add(format!("rows[{index}].{name}"), fault);
            }
        }
        for (position, given) in is_given.iter().enumerate() {
            if !given && let Err(fault) = check_missing(ready, position) {
                missing.get_or_insert((index, position, fault));
            }
        }
    }
    let batch = faults.into_result(batch)?;
    refuse_missing(ready, missing, |index, input| {
        format!("rows[{index}].{input}")
    })?;
    Ok(batch)
}

/// Types one value and puts it in its place; says whether there was one.
fn set_raw(
    ready: &ReadyVersion,
    batch: &mut Batch,
    (row, position): (usize, usize),
    raw: &RawValue,
) -> Result<bool, String> {
    let input = ready
        .signature
        .inputs
        .get(position)
        .ok_or("the model has no such input")?;
    let value = raw.to_value(input.value_type)?;
    if let (RawValue::Text(text), Value::Float(_) | Value::Double(_)) = (raw, &value) {
        return Err(format!(
            "{text} is refused here; send null, or leave the key out, for a missing value"
        ));
    }
    if value.is_null() {
        return Ok(false);
    }
    ready.layout.set(batch, row, position, &value)?;
    Ok(true)
}

fn mark(is_given: &mut [bool], position: usize, has_value: bool) {
    if let Some(given) = is_given.get_mut(position) {
        *given = has_value;
    }
}

/// Whether an input may be missing: by the model's policy, and by what its tensor can hold.
fn check_missing(ready: &ReadyVersion, position: usize) -> Result<(), String> {
    let bound = ready.inputs.get(position);
    if bound.is_some_and(|bound| bound.on_missing == Policy::Reject) {
        return Err("the model rejects missing values of it".to_owned());
    }
    if !ready.layout.knows_missing(position) {
        return Err("its tensor in the model knows no missing value".to_owned());
    }
    Ok(())
}

/// Lays out packed numbers.
fn batch_of_dense(ready: &ReadyVersion, values: &[f32], row_count: usize) -> Result<Batch> {
    let inputs = &ready.signature.inputs;
    if row_count.checked_mul(inputs.len()) != Some(values.len()) {
        return Err(Error::invalid(
            "dense.values",
            format!(
                "{} values are not {row_count} rows of the model's {} inputs",
                values.len(),
                inputs.len()
            ),
        ));
    }
    let mut faults = request_faults();
    let mut missing = None;
    let mut batch = ready.layout.empty_batch(row_count);
    for (index, row) in values.chunks(inputs.len()).enumerate() {
        for (position, (number, input)) in row.iter().zip(inputs).enumerate() {
            if faults.is_full() {
                break;
            }
            let set = dense_value(input, *number).and_then(|value| {
                if !value.is_null() {
                    return ready.layout.set(&mut batch, index, position, &value);
                }
                if let Err(fault) = check_missing(ready, position) {
                    missing.get_or_insert((index, position, fault));
                }
                Ok(())
            });
            if let Err(fault) = set {
                faults.add(
                    dense_place(inputs.len(), index, position, &input.name),
                    fault,
                );
            }
        }
    }
    let batch = faults.into_result(batch)?;
    refuse_missing(ready, missing, |index, input| {
        format!("dense.values (row {index}, {input})")
    })?;
    Ok(batch)
}

fn dense_place(columns: usize, row: usize, position: usize, input: &str) -> String {
    let at = row * columns + position;
    format!("dense.values[{at}] (row {row}, {input})")
}

/// Lays out stored features: a column an input.
fn batch_of_columns(
    ready: &ReadyVersion,
    columns: &[FeatureColumn],
    row_count: usize,
) -> Result<Batch> {
    let mut batch = ready.layout.empty_batch(row_count);
    for (position, (column, bound)) in columns.iter().zip(&ready.inputs).enumerate() {
        let if_missing = check_missing(ready, position);
        for (index, feature) in column.values.iter().enumerate() {
            let place = || format!("entities[{index}]: the feature {}", bound.feature);
            if feature.value.is_missing() {
                if let Err(fault) = &if_missing {
                    return Err(Error::failed_precondition(format!(
                        "{} is {}, and {fault}",
                        place(),
                        describe(feature)
                    )));
                }
                continue;
            }
            ready
                .layout
                .set(&mut batch, index, position, &feature.value)
                .map_err(|fault| Error::failed_precondition(format!("{}: {fault}", place())))?;
        }
    }
    Ok(batch)
}

fn describe(feature: &FeatureValue) -> &'static str {
    match feature.status {
        FeatureStatus::Present => "NaN",
        FeatureStatus::Null => "null",
        FeatureStatus::NotFound => "not found",
        FeatureStatus::OutsideTtl => "older than its view's TTL",
    }
}

/// Answers with the first missing value that the model does not take: row, input and why.
fn refuse_missing(
    ready: &ReadyVersion,
    missing: Option<(usize, usize, String)>,
    place: impl Fn(usize, &str) -> String,
) -> Result<()> {
    let Some((row, position, fault)) = missing else {
        return Ok(());
    };
    let input = ready.signature.inputs.get(position);
    let name = input.map_or("", |input| input.name.as_str());
    Err(Error::failed_precondition(format!(
        "{}: the value is missing, and {fault}",
        place(row, name)
    )))
}

/// Refuses entities that no view has a row of.
fn refuse_unknown_entities(columns: &[FeatureColumn], entities: &[RawRow]) -> Result<()> {
    for (index, entity) in entities.iter().enumerate() {
        let is_known = columns.iter().any(|column| {
            column
                .values
                .get(index)
                .is_some_and(|value| value.status != FeatureStatus::NotFound)
        });
        if !is_known {
            let keys: Vec<String> = entity
                .fields
                .iter()
                .map(|(name, value)| format!("{name} {}", value.shown()))
                .collect();
            return Err(Error::not_found(format!(
                "entities[{index}]: no features are stored of {}, and the model rejects unknown entities",
                keys.join(", ")
            )));
        }
    }
    Ok(())
}

/// Runs a batch and reads the scores.
async fn score(
    version: String,
    ready: Arc<ReadyVersion>,
    batch: Batch,
    features: Option<Vec<FeatureColumn>>,
) -> Result<Predictions> {
    let rows = batch.rows;
    let output = ready.workers.run(batch).await?;
    let predictions = predictions(&ready.signature, &output, rows)?;
    Ok(Predictions {
        version,
        ready,
        predictions,
        features,
    })
}

fn predictions(signature: &Signature, output: &Output, rows: usize) -> Result<Vec<Prediction>> {
    let classes = signature.classes.len();
    let positive = signature.positive_index();
    (0..rows)
        .map(|row| {
            let probabilities: Vec<f64> = (0..classes)
                .filter_map(|class| output.get(row * classes + class))
                .collect();
            let score = probabilities
                .get(positive)
                .copied()
                .ok_or_else(|| Error::internal("the runtime answered fewer scores than rows"))?;
            Ok(Prediction {
                id: Uuid::now_v7(),
                score,
                is_positive: score >= signature.threshold,
                probabilities,
            })
        })
        .collect()
}
