//! What exists: entities and feature views, parsed, validated, an immutable snapshot.
//!
//! Knows nothing of SQL or of the wire. `stores` keeps a catalog in a database through `CatalogStore`; readers take
//! the newest snapshot from a `CatalogHandle` and keep it for as long as one request lasts.

mod definitions;
mod plan;
mod value_type;
mod view;

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use async_trait::async_trait;

pub use definitions::Definitions;
pub use plan::{Action, Change, Plan, ViewChange};
pub use value_type::ValueType;
pub use view::{Entity, FeatureRef, FeatureView, Field, Source};

use crate::error::{Error, Result};

/// Everything that is defined, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    /// Counts the changes ever applied; two catalogs of one database with the same revision are the same.
    pub revision: i64,
    /// By name.
    pub entities: BTreeMap<String, Arc<Entity>>,
    /// By name.
    pub views: BTreeMap<String, Arc<FeatureView>>,
}

impl Catalog {
    /// The view of a name.
    ///
    /// # Errors
    /// `NotFound`, with the names that there are.
    pub fn view(&self, name: &str) -> Result<&Arc<FeatureView>> {
        self.views.get(name).ok_or_else(|| {
            Error::not_found(format!(
                "no feature view is called \"{name}\"; there are: {}",
                listed(self.views.keys())
            ))
        })
    }

    /// The view of a feature, and the feature's position in it.
    ///
    /// # Errors
    /// `NotFound`, for the view or for the feature.
    pub fn resolve(&self, reference: &FeatureRef) -> Result<(&Arc<FeatureView>, usize)> {
        let view = self.view(&reference.view)?;
        let index = view.feature_index(&reference.feature).ok_or_else(|| {
            Error::not_found(format!(
                "the feature view \"{}\" has no feature \"{}\"; it has: {}",
                view.name,
                reference.feature,
                listed(view.features.iter().map(|field| &field.name))
            ))
        })?;
        Ok((view, index))
    }
}

/// Names for an error message; a long list is cut.
fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    const NAMES_MAX: usize = 30;
    let all: Vec<&str> = names.map(String::as_str).collect();
    match all.len() {
        0 => "none".to_owned(),
        count if count <= NAMES_MAX => all.join(", "),
        count => {
            let first: Vec<&str> = all.into_iter().take(NAMES_MAX).collect();
            format!("{} and {} more", first.join(", "), count - NAMES_MAX)
        }
    }
}

/// The newest catalog, for many readers and a rare writer.
#[derive(Debug, Default)]
pub struct CatalogHandle {
    current: ArcSwap<Catalog>,
}

impl CatalogHandle {
    /// A handle on a catalog.
    pub fn new(catalog: Catalog) -> Self {
        CatalogHandle {
            current: ArcSwap::from_pointee(catalog),
        }
    }

    /// The catalog as it is now; it does not change under whoever holds it.
    pub fn snapshot(&self) -> Arc<Catalog> {
        self.current.load_full()
    }

    /// Replaces the catalog, unless what is there is newer.
    pub fn replace(&self, catalog: Catalog) {
        let fresh = Arc::new(catalog);
        self.current.rcu(|current| {
            if current.revision > fresh.revision {
                Arc::clone(current)
            } else {
                Arc::clone(&fresh)
            }
        });
    }
}

/// Keeps the catalog, and the tables that it calls for, in a database.
#[async_trait]
pub trait CatalogStore: Send + Sync {
    /// Reads the catalog.
    ///
    /// # Errors
    /// `Unavailable` where the database is away.
    async fn load_catalog(&self) -> Result<Catalog>;

    /// Applies a plan in one transaction: tables and columns, the definitions, and the revision after the plan's.
    ///
    /// # Errors
    /// `Conflict` where the catalog is no longer at the plan's revision; nothing has changed then. `Unavailable`
    /// where the database is away.
    async fn apply_plan(&self, plan: &Plan) -> Result<Catalog>;
}

/// Plans a definitions file against what the store holds, and applies it unless it is a dry run.
///
/// # Errors
/// As `Definitions::parse`, `Plan::new` and `CatalogStore::apply_plan`.
pub async fn apply_definitions(
    store: &dyn CatalogStore,
    definitions: &Definitions,
    dry_run: bool,
) -> Result<(Plan, Catalog)> {
    let catalog = store.load_catalog().await?;
    let plan = Plan::new(&catalog, definitions)?;
    if dry_run || plan.is_empty() {
        return Ok((plan, catalog));
    }
    let applied = store.apply_plan(&plan).await?;
    Ok((plan, applied))
}
