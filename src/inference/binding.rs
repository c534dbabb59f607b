//! Binds a version's inputs to features of the catalog, and holds what model.toml lets through against what the version can
//! take.

use super::{
    BoundInput, InvalidPolicy, Layout, MissingPolicy, ModelDefinition, Signature,
    repository::MODEL_FILE, signature::Input,
};
use crate::{
    catalog::Catalog,
    error::{Error, Result},
};

/// Inputs that a message names.
const NAMED_MAX: usize = 10;

/// Binds every input to a feature of the catalog, of the same type.
pub(super) fn bind_inputs(
    signature: &Signature,
    definition: &ModelDefinition,
    catalog: &Catalog,
) -> Result<Vec<BoundInput>> {
    let mut faults = Vec::new();
    let mut inputs = Vec::with_capacity(signature.inputs.len());
    for input in &signature.inputs {
        let bound = match definition.bind(&input.name, input.value_type) {
            Ok(mut bound) => {
                if signature.is_coded(input) {
                    know_categories(&mut bound, input, &mut faults);
                }
                bound
            }
            Err(found) => {
                faults.extend(found);
                continue;
            }
        };
        inputs.push(bound);
    }
    if faults.is_empty() {
        faults = check_catalog(signature, &inputs, catalog);
    }
    if faults.is_empty() {
        Ok(inputs)
    } else {
        Err(Error::failed_precondition(faults.join("; ")))
    }
}

/// Holds the features that inputs are bound to against the catalog: each has to be there, of the input's type.
///
/// Returns a sentence a fault.
pub(super) fn check_catalog(
    signature: &Signature,
    inputs: &[BoundInput],
    catalog: &Catalog,
) -> Vec<String> {
    let bound = signature.inputs.iter().zip(inputs);
    let faults = bound.filter_map(|(input, bound)| {
        let (view, index) = match catalog.resolve(&bound.feature) {
            Ok(found) => found,
            Err(fault) => return Some(format!("input {}: {fault}", input.name)),
        };
        let found = view.features.get(index).map(|field| field.value_type);
        (found != Some(input.value_type)).then(|| {
            format!(
                "input {}: the model was trained on a {}, and the feature {} is a {}",
                input.name,
                input.value_type,
                bound.feature,
                found.map_or("nothing", |found| found.name())
            )
        })
    });
    faults.collect()
}

/// Refuses defaults that the model's tensors cannot take.
///
/// # Errors
/// `FailedPrecondition` that names the inputs.
pub(super) fn check_defaults(layout: &Layout, inputs: &[BoundInput]) -> Result<()> {
    let mut batch = layout.empty_batch(1);
    let faults = inputs.iter().enumerate().filter_map(|(at, bound)| {
        let fault = layout
            .set(&mut batch, 0, at, bound.default.as_ref()?)
            .err()?;
        let name = &bound.feature.feature;
        Some(format!(
            "{MODEL_FILE}: the default of the input of {name}: {fault}"
        ))
    });
    let faults: Vec<String> = faults.collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::failed_precondition(faults.join("; ")))
}

/// A text that goes into a tensor of numbers can only be one of the model's categories: any other is a missing value.
fn know_categories(bound: &mut BoundInput, input: &Input, faults: &mut Vec<String>) {
    for category in &bound.categories {
        if !input.categories.contains(category) {
            faults.push(format!(
                "{MODEL_FILE}: inputs.{}: categories: \"{category}\" is none that the model was trained on",
                input.name
            ));
        }
    }
    if bound.categories.is_empty() {
        bound.categories.clone_from(&input.categories);
    }
    if bound.on_invalid == InvalidPolicy::Allow {
        bound.on_invalid = InvalidPolicy::Missing;
    }
}

/// Refuses a version that would be given missing values which no golden row has: whether it takes them for what the trainer
/// did is not known. `proven`: by input, whether a golden row has it missing.
///
/// # Errors
/// `FailedPrecondition` that names the inputs, and says what to do.
pub(super) fn check_missing(
    signature: &Signature,
    inputs: &[BoundInput],
    layout: &Layout,
    proven: &[bool],
) -> Result<()> {
    let unproven: Vec<&str> = signature
        .inputs
        .iter()
        .zip(inputs)
        .enumerate()
        .filter(|(at, (_, bound))| {
            bound.on_missing == MissingPolicy::Allow
                && layout.knows_missing(*at)
                && proven.get(*at) != Some(&true)
        })
        .map(|(_, (input, _))| input.name.as_str())
        .collect();
    if unproven.is_empty() {
        return Ok(());
    }
    let named = unproven.get(..NAMED_MAX).unwrap_or(&unproven).join(", ");
    let more = unproven.len().saturating_sub(NAMED_MAX);
    let more = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    Err(Error::failed_precondition(format!(
        "no golden row has a missing value (null) of {named}{more}, so that nothing shows whether the model takes it as in \
         training; add such rows with the trainer's own scores, or let {MODEL_FILE} say on_missing = \"reject\" or \
         \"default\" for the input"
    )))
}
