//! Which model predicts for an entity, where a request names the entity alone.

use std::sync::Arc;

use super::Predictor;
use crate::{
    catalog::Catalog,
    error::{Error, Result},
    inference::{Model, VersionState},
};

impl Predictor {
    /// The one model whose inputs are all features of an entity.
    ///
    /// # Errors
    /// `NotFound` where there is none, with the entities that there are; `InvalidArgument` where there are several.
    pub fn model_of_entity(&self, entity: &str) -> Result<Arc<Model>> {
        let (catalog, models) = (self.catalog.snapshot(), self.models.snapshot());
        let mut known: Vec<String> = Vec::new();
        let mut found: Vec<&Arc<Model>> = Vec::new();
        for model in models.values() {
            match entity_of(model, &catalog) {
                Some(own) if own == entity => found.push(model),
                Some(other) => known.push(format!("\"{other}\"")),
                None => {}
            }
        }
        known.dedup();
        match found.as_slice() {
            [one] => Ok(Arc::clone(one)),
            [] => Err(Error::not_found(format!(
                "no model predicts for the entity \"{entity}\"; there are models for: {}",
                if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                }
            ))),
            several => {
                let names: Vec<&str> = several.iter().map(|model| model.name.as_str()).collect();
                Err(Error::invalid(
                    "model",
                    format!(
                        "several models predict for the entity \"{entity}\": {}; name one",
                        names.join(", ")
                    ),
                ))
            }
        }
    }
}

/// The entity that all inputs of a model's newest version that is ready are features of.
fn entity_of(model: &Model, catalog: &Catalog) -> Option<String> {
    let mut versions = model.versions.iter().rev();
    let ready = versions.find_map(|version| match &version.state {
        VersionState::Ready(ready) => Some(ready),
        VersionState::Refused(_) | VersionState::Unloaded => None,
    })?;
    let mut entities = ready.inputs.iter().map(|input| {
        let (view, _) = catalog.resolve(&input.feature).ok()?;
        Some(view.entity.clone())
    });
    let first = entities.next()??;
    entities
        .all(|entity| entity.as_ref() == Some(&first))
        .then_some(first)
}
