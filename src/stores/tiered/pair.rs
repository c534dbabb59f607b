//! What is done in the record first and in Redis after it. Nobody breaks it off between the two: see `to_the_end`.

use std::{sync::Arc, time::Duration};

use crate::{
    catalog::{Catalog, CatalogStore, FeatureView, Plan, TableChange, ViewChange},
    error::{Error, Result},
    features::{EntityKey, OnlineStore, Scan, WriteCounts, WriteRow},
    stores::{
        Store,
        redis::RedisStore,
        table::{combined, revision_conflict},
    },
};

/// The record and the Redis before it.
pub(super) struct Pair {
    /// The database.
    pub(super) record: Store,
    /// What features are read from.
    pub(super) redis: Arc<RedisStore>,
    /// How long filling Redis with a view may take.
    pub(super) load_timeout: Duration,
}

impl Pair {
    /// Writes rows to both.
    pub(super) async fn write(
        &self,
        view: &FeatureView,
        rows: Vec<WriteRow>,
    ) -> Result<WriteCounts> {
        let counts = self.record.write(view, rows.clone()).await?;
        let newest: Vec<WriteRow> = combined(rows).into_iter().map(|c| c.write).collect();
        let put = self.redis.put(view, &newest, &self.record).await;
        let keys: Vec<EntityKey> = newest.into_iter().map(|write| write.key).collect();
        let told = self.tell(view, Some(&keys)).await;
        put.map_err(|fault| {
            half_done(
                "the rows are written",
                "The same call can be repeated",
                fault,
            )
        })?;
        told.map(|()| counts)
    }

    /// Takes an entity out of both.
    pub(super) async fn delete(&self, views: &[Arc<FeatureView>], key: &EntityKey) -> Result<u64> {
        let count = self.record.delete(views, key).await?;
        let forgotten = self.redis.forget(views, key, &self.record).await;
        for view in views {
            self.tell(view, Some(std::slice::from_ref(key))).await?;
        }
        forgotten.map_err(|fault| {
            half_done(
                "the entity is deleted",
                "The same call can be repeated",
                fault,
            )
        })?;
        Ok(count)
    }

    /// Tells every server that keeps rows in memory that those of some keys, or all, may have changed in Redis. The record
    /// has told them at its commit; but what they have read since may be what Redis held before.
    pub(super) async fn tell(&self, view: &FeatureView, keys: Option<&[EntityKey]>) -> Result<()> {
        let told = Box::pin(self.record.tell(view, keys)).await;
        told.map_err(|fault| {
            let sentence = format!(
                "what was changed of the feature view \"{}\" is in the database and in Redis, and not every server may know \
                 yet: {fault}. The same call can be repeated",
                view.name
            );
            Error::new(fault.kind(), sentence).with_source(fault)
        })
    }

    /// Applies a plan to the record, and takes out of Redis what belongs to no view any more.
    pub(super) async fn apply(&self, plan: &Plan) -> Result<Catalog> {
        let swept = self.sweep_for_new(plan).await?;
        let catalog = match self.record.apply_plan(plan).await {
            Ok(catalog) => catalog,
            Err(fault) => {
                if swept > 0 {
                    self.bring_back(plan).await;
                }
                return Err(fault);
            }
        };
        self.follow(plan).await.map_err(|fault| {
            let what_helps = "`ferrocast refill --flush` makes Redis as the definitions say";
            half_done("the definitions are applied", what_helps, fault)
        })?;
        Ok(catalog)
    }

    /// Before a plan: what had the name of a new view once; nobody can write to that yet. Returns how many rows there were.
    async fn sweep_for_new(&self, plan: &Plan) -> Result<u64> {
        let names: Vec<&str> = new_views(plan).map(name).collect();
        if names.is_empty() {
            return Ok(0);
        }
        // In a later catalog the view may be there and in use.
        let found = self.record.catalog_revision().await?;
        if found != plan.revision {
            return Err(revision_conflict(plan.revision, found));
        }
        self.redis.remove_views(&names).await
    }

    /// Where a plan came too late: somebody else may have made its views while they were swept.
    async fn bring_back(&self, plan: &Plan) {
        let brought = async {
            let catalog = self.record.load_catalog().await?;
            let made = new_views(plan).filter_map(|change| catalog.views.get(name(change)));
            for view in made.filter(|view| view.table.is_none()) {
                self.fill(view, Scan::default(), &|_| ()).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(fault) = Box::pin(brought).await {
            tracing::warn!(%fault, "Redis may lack rows of new views; `ferrocast refill` brings them there");
        }
    }

    /// After a plan: the keys of views that went.
    async fn follow(&self, plan: &Plan) -> Result<()> {
        let has_gone = |change: &&ViewChange| {
            matches!(change.table, TableChange::Drop | TableChange::Recreate)
        };
        let gone = || plan.views.iter().filter(has_gone);
        let names: Vec<&str> = gone().map(name).collect();
        if names.is_empty() {
            return Ok(());
        }
        self.redis.remove_views(&names).await?;
        for change in gone() {
            self.tell(&change.view, None).await?;
        }
        // Others may have written to a view that was made anew already.
        for change in gone().filter(|change| change.table == TableChange::Recreate) {
            self.fill(&change.view, Scan::default(), &|_| ()).await?;
        }
        Ok(())
    }
}

fn new_views(plan: &Plan) -> impl Iterator<Item = &ViewChange> {
    let changes = plan.views.iter();
    changes.filter(|change| change.table == TableChange::Create)
}

fn name(change: &ViewChange) -> &str {
    &change.view.name
}

/// The record has done its part and Redis has not.
pub(super) fn half_done(done: &str, what_helps: &str, fault: Error) -> Error {
    // Of the kind that Redis' own is: a key of somebody else's does not go away by trying again.
    Error::new(
        fault.kind(),
        format!("{done} in the database and not yet in Redis: {fault}. {what_helps}"),
    )
    .with_source(fault)
}
