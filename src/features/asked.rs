//! Which features a caller means: those that it names, or those of a feature service.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::FeatureSelection;
use crate::{
    catalog::{Catalog, FeatureRef, PerCatalog},
    error::{Error, Result},
};

/// The features that are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedFeatures {
    /// In the order in which they are answered.
    pub references: Vec<FeatureRef>,
    /// The service that names them, as `name@version`; empty where the caller does.
    pub service: String,
}

impl AskedFeatures {
    /// Reads names of the form `view:feature`, or takes the list of a feature service, `name` or `name@version`; an empty
    /// one is none.
    ///
    /// # Errors
    /// `InvalidArgument` for a name of another form, or for both; `NotFound` for an unknown service.
    pub fn resolve(
        catalog: &Catalog,
        features: &[String],
        feature_service: &str,
    ) -> Result<AskedFeatures> {
        if feature_service.is_empty() {
            let names = features.iter().enumerate();
            let references = names.map(|(index, name)| reference(index, name));
            return Ok(AskedFeatures {
                references: references.collect::<Result<_>>()?,
                service: String::new(),
            });
        }
        if !features.is_empty() {
            let fault = "comes instead of features, not beside them";
            return Err(Error::invalid("featureService", fault));
        }
        let service = catalog.service(feature_service)?;
        Ok(AskedFeatures {
            references: service.features.clone(),
            service: format!("{}@{}", service.name, service.version),
        })
    }
}

/// The features that are asked for, ready to be read.
#[derive(Debug, Clone)]
pub struct SelectedFeatures {
    /// Which they are.
    pub selection: Arc<FeatureSelection>,
    /// As `AskedFeatures::service`.
    pub service: String,
}

/// The features of services, resolved once a catalog and not once a request.
#[derive(Debug, Default)]
pub struct ServiceSelections {
    known: PerCatalog<Arc<RwLock<ByService>>>,
}

/// By name and version; no more than the catalog has.
type ByService = BTreeMap<(String, u32), SelectedFeatures>;

impl ServiceSelections {
    /// As `AskedFeatures::resolve`, and resolves what is asked for.
    ///
    /// # Errors
    /// As that, and as `FeatureSelection::resolve`.
    pub fn select(
        &self,
        catalog: &Arc<Catalog>,
        features: &[String],
        feature_service: &str,
    ) -> Result<SelectedFeatures> {
        let resolve = || {
            let asked = AskedFeatures::resolve(catalog, features, feature_service)?;
            Ok::<_, Error>(SelectedFeatures {
                selection: FeatureSelection::resolve(catalog, asked.references)?.into(),
                service: asked.service,
            })
        };
        if feature_service.is_empty() || !features.is_empty() {
            return resolve();
        }
        let service = catalog.service(feature_service)?;
        let known = self.known.get_or_make(catalog, || Ok(Arc::default()))?;
        let key = (service.name.clone(), service.version);
        let found = {
            let known = known.read().unwrap_or_else(PoisonError::into_inner);
            known.get(&key).cloned()
        };
        if let Some(selected) = found {
            return Ok(selected);
        }
        let selected = resolve()?;
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(key, selected.clone());
        Ok(selected)
    }
}

fn reference(index: usize, name: &str) -> Result<FeatureRef> {
    FeatureRef::parse(name).ok_or_else(|| {
        Error::invalid(
            format!("features[{index}]"),
            format!("\"{name}\" is not of the form view:feature"),
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{catalog::Definitions, error::ErrorKind};

    fn catalog() -> Arc<Catalog> {
        let text = r#"
            project = "demo"
            [[entities]]
            name = "shop"
            join_keys = [{ name = "shop_id", type = "int64" }]
            [[feature_views]]
            name = "footfall"
            entity = "shop"
            features = [{ name = "visitors", type = "int64" }, { name = "open", type = "bool" }]
            [[feature_services]]
            name = "forecast"
            version = 1
            features = ["footfall:visitors"]
            [[feature_services]]
            name = "forecast"
            version = 2
            features = ["footfall:open", "footfall:visitors"]
        "#;
        let definitions = Definitions::parse(text).unwrap();
        let mut catalog = Catalog::default();
        for view in definitions.views {
            catalog.views.insert(view.name.clone(), view);
        }
        for service in definitions.services {
            let versions = catalog.services.entry(service.name.clone()).or_default();
            versions.insert(service.version, service);
        }
        Arc::new(catalog)
    }

    #[test]
    fn a_service_is_resolved_once_a_catalog_however_it_is_named() {
        let (catalog, known) = (catalog(), ServiceSelections::default());
        let select = |name: &str| known.select(&catalog, &[], name).unwrap();
        let newest = select("forecast");
        assert_eq!(newest.service, "forecast@2");
        assert_eq!(
            newest.selection.names,
            ["footfall:open", "footfall:visitors"]
        );
        assert!(Arc::ptr_eq(
            &newest.selection,
            &select("forecast@2").selection
        ));
        assert_eq!(select("forecast@1").selection.names, ["footfall:visitors"]);
        let other = known.select(&self::catalog(), &[], "forecast").unwrap();
        assert!(!Arc::ptr_eq(&newest.selection, &other.selection));
    }

    #[test]
    fn names_and_a_service_do_not_go_together() {
        let (catalog, known) = (catalog(), ServiceSelections::default());
        let names = ["footfall:open".to_owned()];
        let named = known.select(&catalog, &names, "").unwrap();
        assert_eq!(
            (named.selection.names.len(), named.service.as_str()),
            (1, "")
        );
        let kind = |names, service| known.select(&catalog, names, service).unwrap_err().kind();
        assert_eq!(kind(&names, "forecast"), ErrorKind::InvalidArgument);
        assert_eq!(kind(&[], "weather"), ErrorKind::NotFound);
    }
}
