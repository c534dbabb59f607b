//! Which features a caller means: those that it names, or those of a feature service.

use crate::{
    catalog::{Catalog, FeatureRef},
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

fn reference(index: usize, name: &str) -> Result<FeatureRef> {
    FeatureRef::parse(name).ok_or_else(|| {
        Error::invalid(
            format!("features[{index}]"),
            format!("\"{name}\" is not of the form view:feature"),
        )
    })
}
