//! PostgreSQL: the record that several servers share.
//!
//! A view is a table `fv_<view>` in the first schema of the connection's `search_path`. One prepared statement reads any
//! number of rows, one writes them. Every wait has a bound and a name in `DatabaseOptions`.

mod catalog;
mod fault;
mod lease;
mod load;
mod pool;
mod rows;
mod tls;
mod url;
mod values;

use std::time::Duration;

use async_trait::async_trait;

use self::{
    fault::Fault,
    pool::{Database, LoneClient},
};
use super::{
    DatabaseOptions,
    migrations::{self, HISTORY_TABLE},
    statements::StatementCache,
    table::{check_keys, check_rows},
};
use crate::{
    catalog::{Catalog, CatalogStore, FeatureView, Plan},
    error::Result,
    features::{
        EntityKey, LoadInput, Materialization, MaterializationRecord, OnlineStore, RowSink, Scan,
        StoredRow, WriteCounts, WriteRow,
    },
};

/// Held while migrations run; any number that nobody else takes ("ferrocas").
const MIGRATE_LOCK: i64 = 0x6665_7272_6f63_6173;

/// Features and the catalog in a PostgreSQL database.
pub struct PostgresStore {
    database: Database,
    statements: StatementCache,
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
            statements: StatementCache::new(rows::build_statements),
        };
        store.ping().await?;
        Ok(store)
    }

    /// Applies the migrations that the database has not had; returns their names. Two processes take turns.
    ///
    /// # Errors
    /// `FailedPrecondition` where the database is newer than this binary or a migration fails; nothing has changed then.
    pub async fn migrate(&self) -> Result<Vec<String>> {
        let bound = self.database.options().load_timeout;
        let mut lone = self.database.lone_client().await?;
        let done = self
            .database
            .bounded_as_load(migrate(&mut lone, bound))
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
async fn migrate(lone: &mut LoneClient, bound: Duration) -> Result<Vec<String>, Fault> {
    let client = &mut lone.client;
    client
        .batch_execute(&format!("SET statement_timeout = {}", bound.as_millis()))
        .await?;
    client
        .execute("SELECT pg_advisory_lock($1)", &[&MIGRATE_LOCK])
        .await?;
    let runner = migrations::for_postgres();
    migrations::check_not_newer(&runner, &applied_versions(client).await?)?;
    let report = runner.run_async(client).await;
    let names = migrations::applied_names(&report.map_err(migrations::fault)?);
    client
        .execute("SELECT pg_advisory_unlock($1)", &[&MIGRATE_LOCK])
        .await?;
    Ok(names)
}

#[async_trait]
impl OnlineStore for PostgresStore {
    async fn read(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<Vec<Option<StoredRow>>> {
        check_keys(view, keys)?;
        rows::read(&self.database, &self.statements.of(view), keys).await
    }

    async fn write(&self, view: &FeatureView, rows: Vec<WriteRow>) -> Result<WriteCounts> {
        check_rows(view, &rows, 0)?;
        if rows.is_empty() {
            return Ok(WriteCounts::default());
        }
        rows::write(&self.database, &self.statements.of(view), rows).await
    }

    async fn load(
        &self,
        view: &FeatureView,
        input: LoadInput,
        note: &Materialization,
    ) -> Result<WriteCounts> {
        let LoadInput::Rows(batches) = input else {
            return Err(crate::error::Error::internal("not yet"));
        };
        load::load(&self.database, view, batches, note).await
    }

    async fn materializations(&self, _: &str) -> Result<Vec<MaterializationRecord>> {
        Err(crate::error::Error::internal("not yet"))
    }

    async fn delete(&self, _: &[std::sync::Arc<FeatureView>], _: &EntityKey) -> Result<u64> {
        Err(crate::error::Error::internal("not yet"))
    }

    async fn scan(&self, _: &FeatureView, _: Scan, _: RowSink) -> Result<()> {
        Err(crate::error::Error::internal("not yet"))
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
        Err(crate::error::Error::internal("not yet"))
    }

    async fn apply_plan(&self, plan: &Plan) -> Result<Catalog> {
        catalog::apply(&self.database, plan).await
    }
}
