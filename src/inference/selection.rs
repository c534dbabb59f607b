//! Which features a version's inputs are, resolved once a catalog and not once a request.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::BoundInput;
use crate::{catalog::Catalog, error::Result, features::FeatureSelection};

/// The last resolution.
#[derive(Debug, Default)]
pub(super) struct BoundSelection {
    last: ArcSwapOption<Resolved>,
}

#[derive(Debug)]
struct Resolved {
    catalog: Arc<Catalog>,
    selection: Arc<FeatureSelection>,
}

impl BoundSelection {
    /// The features of inputs, in their order.
    ///
    /// # Errors
    /// As `FeatureSelection::resolve`.
    pub(super) fn get(
        &self,
        catalog: &Arc<Catalog>,
        inputs: &[BoundInput],
    ) -> Result<Arc<FeatureSelection>> {
        let last = self.last.load();
        if let Some(known) = last.as_ref().filter(|k| Arc::ptr_eq(&k.catalog, catalog)) {
            return Ok(Arc::clone(&known.selection));
        }
        let references = inputs.iter().map(|input| input.feature.clone());
        let selection = Arc::new(FeatureSelection::resolve(catalog, references.collect())?);
        self.last.store(Some(Arc::new(Resolved {
            catalog: Arc::clone(catalog),
            selection: Arc::clone(&selection),
        })));
        Ok(selection)
    }
}
