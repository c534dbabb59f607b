//! Follows the catalog of the store: what another process applies is known here soon after, without a restart.

use std::{sync::Arc, time::Duration};

use tokio::{task, time};
use tokio_util::sync::CancellationToken;

use super::{load_models, log_models};
use crate::{
    catalog::{Catalog, CatalogHandle},
    config::Config,
    error::{Error, Result},
    inference::{Model, ModelRegistry, Models, VersionState},
    stores::Store,
};

/// What follows the catalog.
pub(super) struct CatalogWatch {
    pub(super) config: Config,
    pub(super) store: Arc<Store>,
    pub(super) catalog: Arc<CatalogHandle>,
    pub(super) models: Arc<ModelRegistry>,
}

impl CatalogWatch {
    /// Asks the store for its revision at every interval, until the stop.
    pub(super) async fn run(self, interval: Duration, stop: CancellationToken) {
        // The revision that the models were last checked against.
        let mut checked = self.catalog.snapshot().revision;
        let mut is_failing = false;
        while stop
            .run_until_cancelled(time::sleep(interval))
            .await
            .is_some()
        {
            let Some(done) = stop.run_until_cancelled(self.follow(&mut checked)).await else {
                return;
            };
            match done {
                Ok(()) => is_failing = false,
                // Said once: health tells whether the store is away.
                Err(fault) if !is_failing => {
                    is_failing = true;
                    tracing::warn!(%fault, "the catalog cannot be followed; trying on");
                }
                Err(_) => {}
            }
        }
    }

    async fn follow(&self, checked: &mut i64) -> Result<()> {
        self.catalog.follow(self.store.as_ref()).await?;
        // Also where this server applied them itself.
        let catalog = self.catalog.snapshot();
        if catalog.revision != *checked {
            self.check_models(&catalog).await?;
            *checked = catalog.revision;
        }
        Ok(())
    }

    /// Checks the models against new definitions: one that was refused may be ready now, and the other way round.
    async fn check_models(&self, catalog: &Arc<Catalog>) -> Result<()> {
        if !self
            .models
            .snapshot()
            .values()
            .any(|model| is_touched(model, catalog))
        {
            return Ok(());
        }
        let (config, catalog) = (self.config.clone(), Arc::clone(catalog));
        let models: Models = task::spawn_blocking(move || load_models(&config, &catalog))
            .await
            .map_err(|fault| Error::internal("loading the models failed").with_source(fault))??;
        log_models(&models);
        self.models.replace(models);
        Ok(())
    }
}

/// Whether new definitions may make a difference to a model.
fn is_touched(model: &Model, catalog: &Catalog) -> bool {
    model.reason.is_some()
        || model.versions.iter().any(|version| match &version.state {
            VersionState::Refused(_) => true,
            VersionState::Ready(ready) => {
                let inputs = ready.inputs.iter().zip(&ready.signature.inputs);
                let mut types = inputs.map(|(bound, input)| (&bound.feature, input.value_type));
                types.any(|(feature, value_type)| {
                    let field = catalog
                        .resolve(feature)
                        .ok()
                        .and_then(|(view, index)| view.features.get(index));
                    field.map(|field| field.value_type) != Some(value_type)
                })
            }
        })
}
