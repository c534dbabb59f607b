//! What exists: entities, feature views and feature services, parsed, validated, an immutable snapshot.
//!
//! Knows nothing of SQL or of the wire. `stores` keeps a catalog in a database through `CatalogStore`; readers take
//! the newest snapshot from a `CatalogHandle` and keep it for as long as one request lasts.

mod calendar;
mod definition_checks;
mod definitions;
mod duration;
mod per_catalog;
mod per_view;
mod plan;
#[cfg(test)]
mod plan_tests;
mod value_type;
mod view;
mod view_change;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use async_trait::async_trait;

pub use calendar::TtlCalendar;
pub use definitions::Definitions;
pub use duration::parse_duration;
pub use per_catalog::PerCatalog;
pub use per_view::PerView;
pub use plan::{Action, Change, Plan};
pub use value_type::{ScalarType, ValueType};
pub use view::{
    Entity, ExistingTable, FeatureRef, FeatureService, FeatureView, Field, Origin, Source,
};
pub(crate) use view_change::same_columns;
pub use view_change::{TableChange, ViewChange};

use crate::error::{Error, ErrorKind, Result};

/// Everything that is defined, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    /// Counts the changes ever applied; two catalogs of one database with the same revision are the same.
    pub revision: i64,
    /// By name.
    pub entities: BTreeMap<String, Arc<Entity>>,
    /// By name.
    pub views: BTreeMap<String, Arc<FeatureView>>,
    /// By name, then by version.
    pub services: BTreeMap<String, BTreeMap<u32, Arc<FeatureService>>>,
}

impl Catalog {
    /// The entity of a name.
    ///
    /// # Errors
    /// `NotFound`, with the names that there are.
    pub fn entity(&self, name: &str) -> Result<&Arc<Entity>> {
        self.entities.get(name).ok_or_else(|| {
            Error::not_found(format!(
                "no entity is called \"{name}\"; there are: {}",
                listed(self.entities.keys())
            ))
        })
    }

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

    /// The feature service of `name`, which means its newest version, or of `name@version`.
    ///
    /// # Errors
    /// `NotFound`, with the names or versions that there are.
    pub fn service(&self, reference: &str) -> Result<&Arc<FeatureService>> {
        let (name, version) = match reference.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (reference, None),
        };
        let versions = self.services.get(name).ok_or_else(|| {
            Error::not_found(format!(
                "no feature service is called \"{name}\"; there are: {}",
                listed(self.services.keys())
            ))
        })?;
        let found = match version {
            None => versions.values().next_back(),
            Some(version) => version
                .parse()
                .ok()
                .and_then(|number: u32| versions.get(&number)),
        };
        found.ok_or_else(|| {
            let numbers: Vec<String> = versions.keys().map(ToString::to_string).collect();
            Error::not_found(format!(
                "the feature service \"{name}\" has no version \"{}\"; it has: {}",
                version.unwrap_or_default(),
                listed(numbers.iter())
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
    /// Whether the store was last seen to have an older one.
    is_behind: AtomicBool,
}

impl CatalogHandle {
    /// A handle on a catalog.
    pub fn new(catalog: Catalog) -> Self {
        CatalogHandle {
            current: ArcSwap::from_pointee(catalog),
            is_behind: AtomicBool::new(false),
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

    /// Looks at the store, and takes over the catalog that it has where that is another one.
    ///
    /// An older one is taken over, too, if it is seen twice in a row: once may be from before a change that this process
    /// has just made, but a database that stays behind was restored.
    ///
    /// # Errors
    /// `Unavailable` where the database is away.
    pub async fn follow(&self, store: &dyn CatalogStore) -> Result<()> {
        let revision = store.catalog_revision().await?;
        let known = self.snapshot().revision;
        let is_behind = revision < known;
        let was_behind = self.is_behind.swap(is_behind, Ordering::Relaxed);
        if revision == known || (is_behind && !was_behind) {
            return Ok(());
        }
        let fresh = store.load_catalog().await?;
        let revision = fresh.revision;
        if is_behind {
            tracing::warn!(
                revision,
                known,
                "the database has older definitions, as after a restore; they are taken over"
            );
            self.current.store(Arc::new(fresh));
            self.is_behind.store(false, Ordering::Relaxed);
        } else {
            tracing::info!(revision, "definitions have changed");
            self.replace(fresh);
        }
        Ok(())
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

    /// The revision of the catalog, which is much less to read.
    ///
    /// # Errors
    /// `Unavailable` where the database is away.
    async fn catalog_revision(&self) -> Result<i64>;

    /// Applies a plan in one transaction: tables and columns, the definitions, and the revision after the plan's.
    ///
    /// # Errors
    /// `Conflict` where the catalog is no longer at the plan's revision; nothing has changed then. `FailedPrecondition`
    /// where a table is in the way, or somebody else's table is not as a view says. `Unavailable` where the database is
    /// away.
    async fn apply_plan(&self, plan: &Plan) -> Result<Catalog>;
}

/// How definitions are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ApplyOptions {
    /// Plans, and changes nothing.
    pub dry_run: bool,
    /// Whether changes that lose data may be made.
    pub allow_data_loss: bool,
}

/// How often a plan is made anew because somebody else applied definitions meanwhile.
const APPLY_ATTEMPTS_MAX: u32 = 5;

/// Plans a definitions file against what the store holds, and applies it unless it is a dry run.
///
/// # Errors
/// As `Definitions::parse`, `Plan::new` and `CatalogStore::apply_plan`; `FailedPrecondition` where data would be lost and
/// that is not allowed, but not in a dry run, whose plan says it.
pub async fn apply_definitions(
    store: &dyn CatalogStore,
    definitions: &Definitions,
    options: ApplyOptions,
) -> Result<(Plan, Catalog)> {
    for attempt in 1_u32.. {
        let catalog = store.load_catalog().await?;
        let plan = Plan::new(&catalog, definitions)?;
        if options.dry_run || plan.is_empty() {
            return Ok((plan, catalog));
        }
        if !options.allow_data_loss {
            plan.check_no_loss()?;
        }
        match store.apply_plan(&plan).await {
            Ok(applied) => return Ok((plan, applied)),
            Err(fault) if fault.kind() == ErrorKind::Conflict && attempt < APPLY_ATTEMPTS_MAX => {}
            Err(fault) => return Err(fault),
        }
    }
    Err(Error::internal("applying definitions came to no end"))
}
