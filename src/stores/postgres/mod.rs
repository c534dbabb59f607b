//! PostgreSQL: the record that several servers share.
//!
//! A view is a table `fv_<view>` in the first schema of the connection's `search_path`. One prepared statement reads any
//! number of rows, one writes them. Every wait has a bound and a name in `DatabaseOptions`.

mod arrays;
mod as_of;
mod catalog;
mod columns;
mod delete;
mod existing;
mod fault;
mod history;
mod jobs;
mod lease;
mod ledger;
mod listen;
mod load;
mod partitions;
mod pinned;
mod pool;
mod query_load;
mod releases;
mod rows;
mod scan;
mod sql;
mod stage;
mod tables;
mod tls;
mod url;
mod values;
mod write;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{
    catalog::TABLE_LOCK_WAIT_MS,
    existing::ExistingTables,
    fault::Fault,
    ledger::LedgerState,
    pool::{Database, LoneClient},
};
use super::{
    DatabaseOptions,
    migrations::{self, HISTORY_TABLE},
    notices::{Follower, Notices},
    statements::StatementCache,
    table::{check_history, check_keys, check_rows, history_name, no_history, table_name},
};
use crate::{
    catalog::{Catalog, CatalogStore, FeatureView, Plan},
    error::Result,
    features::{
        EntityKey, LoadInput, Materialization, MaterializationRecord, OnlineStore, RowCache,
        RowSink, Scan, StoredRow, Timestamp, WriteCounts, WriteRow,
    },
    inference::{
        LedgerEntry, LedgerPage, LedgerSpan, LedgerStore, RecordedVersion, Release, ReleaseEvent,
        ReleaseStore,
    },
};

/// Held while migrations run; any number that nobody else takes ("ferrocas").
const MIGRATE_LOCK: i64 = 0x6665_7272_6f63_6173;

/// Features and the catalog in a PostgreSQL database.
pub struct PostgresStore {
    database: Database,
    statements: StatementCache,
    existing: ExistingTables,
    ledger: LedgerState,
    notices: Arc<Notices>,
}

/// Checks what a URL says, without connecting.
pub(super) fn check_url(text: &str) -> Result<()> {
    url::Target::parse(text).map(|_| ())
}

impl PostgresStore {
    /// Reads the URL and makes a first connection, so that a wrong one is told at once.
    ///
    /// # Errors
    /// `InvalidArgument` for a URL that makes no sense, `FailedPrecondition` for a refused login, an unknown database or a
    /// certificate that does not hold, `Unavailable` where nobody answers. Host and port are named, the password never.
    pub async fn connect(options: &DatabaseOptions) -> Result<PostgresStore> {
        let store = PostgresStore {
            database: Database::new(options)?,
            statements: StatementCache::new(sql::build_statements),
            existing: ExistingTables::default(),
            ledger: LedgerState::default(),
            notices: Arc::default(),
        };
        store.ping().await?;
        Ok(store)
    }

    /// Applies the migrations that the database has not had; returns their names. Two processes take turns.
    ///
    /// # Errors
    /// `FailedPrecondition` where the database is newer than this binary or a migration fails; nothing has changed then.
    pub async fn migrate(&self) -> Result<Vec<String>> {
        let mut lone = self.database.lone_client().await?;
        let done = self
            .database
            .bounded_as_load(migrate(&mut lone, &self.database))
            .await;
        if !matches!(done, Err(Fault::Timeout(_))) {
            lone.settle();
        }
        done.map_err(|fault| fault.at(self.database.target()))
    }

    /// Checks that the database's schema is the one that this binary knows.
    ///
    /// # Errors
    /// `FailedPrecondition` where it is behind or newer.
    pub async fn check_schema(&self) -> Result<()> {
        let mut lease = self.database.lease().await?;
        let read = applied_versions(lease.client()?);
        let read = self.database.bounded(read).await;
        let applied = lease.settle(read);
        let applied = applied.map_err(|fault| fault.at(self.database.target()))?;
        migrations::check_versions(&migrations::for_postgres(), &applied)
    }

    /// Tells a cache what changes, from whichever server, until the stop.
    pub(super) async fn follow(
        &self,
        cache: Arc<RowCache>,
        stale_max: Duration,
        stop: &CancellationToken,
    ) {
        let follower = Follower {
            notices: Arc::clone(&self.notices),
            cache,
        };
        listen::follow(&self.database, &follower, stale_max, stop).await;
    }

    /// Tells every server that follows that some rows of a view have changed; without keys, any.
    pub(super) async fn tell(&self, view: &FeatureView, keys: Option<&[EntityKey]>) -> Result<()> {
        let notice = self.notices.of(view, keys);
        let mut lease = self.database.lease().await?;
        let client = lease.client()?;
        let sql = listen::tell(&notice);
        let told = self.database.bounded(client.batch_execute(&sql)).await;
        let told = lease.settle(told);
        told.map_err(|fault| fault.at(self.database.target()))
    }
}

/// The versions of the migrations that the database has had.
async fn applied_versions(
    client: &tokio_postgres::Client,
) -> Result<Vec<i32>, tokio_postgres::Error> {
    let sql = "SELECT to_regclass($1) IS NOT NULL";
    let history = client.query_one(sql, &[&HISTORY_TABLE]).await?;
    let mut applied = Vec::new();
    if history.try_get(0)? {
        let sql = format!("SELECT version FROM {HISTORY_TABLE}");
        for row in client.query(&sql, &[]).await? {
            applied.push(row.try_get(0)?);
        }
    }
    Ok(applied)
}

/// The lock belongs to the session, which ends with the connection whatever happens.
async fn migrate(lone: &mut LoneClient, database: &Database) -> Result<Vec<String>, Fault> {
    let bound = database.options().load_timeout;
    let client = &mut lone.client;
    client
        .batch_execute(&format!("SET statement_timeout = {}", bound.as_millis()))
        .await?;
    client
        .execute("SELECT pg_advisory_lock($1)", &[&MIGRATE_LOCK])
        .await?;
    // Only from here on: the turn of another process may take as long as a migration does.
    client
        .batch_execute(&format!("SET lock_timeout = {TABLE_LOCK_WAIT_MS}"))
        .await?;
    let runner = migrations::for_postgres();
    migrations::check_not_newer(&runner, &applied_versions(client).await?)?;
    let report = runner.run_async(client).await;
    let report = report.map_err(|error| match fault::is_of_lock(&error) {
        true => fault::table_in_use(database.target()).with_source(error),
        false => migrations::fault(error),
    })?;
    let names = migrations::applied_names(&report);
    client
        .execute("SELECT pg_advisory_unlock($1)", &[&MIGRATE_LOCK])
        .await?;
    Ok(names)
}

#[async_trait]
impl OnlineStore for PostgresStore {
    async fn read(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<Vec<Option<StoredRow>>> {
        check_keys(view, keys)?;
        if let Some(table) = &view.table {
            return self.existing.read(&self.database, view, table, keys).await;
        }
        let read = &self.statements.of(view).read;
        let found = rows::read(&self.database, view, read, keys).await;
        found.map_err(|fault| fault.at_view(self.database.target(), view))
    }

    async fn read_as_of(
        &self,
        view: &FeatureView,
        keys: &[EntityKey],
        at: Timestamp,
    ) -> Result<Vec<Option<StoredRow>>> {
        check_keys(view, keys)?;
        check_history(view)?;
        let found = as_of::read(&self.database, view, keys, at).await;
        found.map_err(|fault| fault.at_view(self.database.target(), view))
    }

    async fn write(&self, view: &FeatureView, rows: Vec<WriteRow>) -> Result<WriteCounts> {
        Ok(self.write_returning(view, rows).await?.0)
    }

    async fn write_returning(
        &self,
        view: &FeatureView,
        rows: Vec<WriteRow>,
    ) -> Result<(WriteCounts, Vec<WriteRow>)> {
        view.check_writable()?;
        check_rows(view, &rows, 0)?;
        if rows.is_empty() {
            return Ok((WriteCounts::default(), Vec::new()));
        }
        let statements = self.statements.of(view);
        write::write(&self.database, &statements, &self.notices, rows).await
    }

    async fn load(
        &self,
        view: &FeatureView,
        input: LoadInput,
        note: &Materialization,
    ) -> Result<WriteCounts> {
        view.check_writable()?;
        let statements = self.statements.of(view);
        load::load(&self.database, &statements, &self.notices, input, note).await
    }

    async fn materializations(&self, view: &str) -> Result<Vec<MaterializationRecord>> {
        load::records(&self.database, view).await
    }

    async fn delete(&self, views: &[Arc<FeatureView>], key: &EntityKey) -> Result<u64> {
        for view in views {
            view.check_writable()?;
            check_keys(view, std::slice::from_ref(key))?;
        }
        delete::delete(&self.database, &self.notices, views, key).await
    }

    async fn scan(&self, view: &FeatureView, scan: Scan, sink: RowSink) -> Result<()> {
        if let Some(table) = &view.table {
            return self
                .existing
                .scan(&self.database, view, table, scan, sink)
                .await;
        }
        if scan.history && !view.history {
            return Err(no_history(view));
        }
        let table = if scan.history {
            history_name(view)
        } else {
            table_name(view)
        };
        let sql = sql::scan(view, &table);
        let done = scan::scan(&self.database, view, &sql, scan.since, sink).await;
        done.map_err(|fault| fault.at_view(self.database.target(), view))
    }

    async fn ping(&self) -> Result<()> {
        let mut lease = self.database.lease().await?;
        let asked = lease.client()?.simple_query("SELECT 1");
        let answer = self.database.bounded(asked).await;
        let answer = lease.settle(answer).map(|_| ());
        answer.map_err(|fault| fault.at(self.database.target()))
    }
}

#[async_trait]
impl CatalogStore for PostgresStore {
    async fn load_catalog(&self) -> Result<Catalog> {
        catalog::load(&self.database).await
    }

    async fn catalog_revision(&self) -> Result<i64> {
        catalog::load_revision(&self.database).await
    }

    async fn apply_plan(&self, plan: &Plan) -> Result<Catalog> {
        catalog::apply(&self.database, &self.notices, plan).await
    }
}

#[async_trait]
impl ReleaseStore for PostgresStore {
    async fn releases(&self) -> Result<BTreeMap<String, Release>> {
        releases::all(&self.database).await
    }

    async fn releases_revision(&self) -> Result<i64> {
        releases::revision(&self.database).await
    }

    async fn put_release(&self, release: &Release, event: &ReleaseEvent) -> Result<bool> {
        releases::put(&self.database, release, event).await
    }

    async fn release_events(&self, model: &str, limit: usize) -> Result<Vec<ReleaseEvent>> {
        releases::events(&self.database, model, limit).await
    }
}

#[async_trait]
impl LedgerStore for PostgresStore {
    async fn append_predictions(&self, entries: &Arc<[LedgerEntry]>) -> Result<()> {
        ledger::append(&self.database, &self.ledger, entries).await
    }

    async fn prediction(&self, id: Uuid) -> Result<Option<LedgerEntry>> {
        ledger::one(&self.database, &self.ledger, id).await
    }

    async fn predictions(&self, span: &LedgerSpan, limit: usize) -> Result<LedgerPage> {
        ledger::page(&self.database, &self.ledger, span, limit).await
    }

    async fn recorded_versions(&self, model: &str) -> Result<Vec<Arc<RecordedVersion>>> {
        ledger::versions(&self.database, &self.ledger, model).await
    }

    async fn drop_predictions(&self, before: Timestamp) -> Result<bool> {
        partitions::drop_before(&self.database, before).await
    }
}
