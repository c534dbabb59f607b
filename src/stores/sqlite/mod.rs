//! The embedded default: one SQLite file, nothing to install.
//!
//! One connection writes (one more the ledger, one more loads), several read, each on a thread that may block. A commit is acknowledged when it is on the disk.
//! How values are kept is told in `values`.

mod catalog;
mod fault;
mod jobs;
mod ledger;
mod load;
mod notices;
mod pool;
mod query;
mod releases;
mod rows;
mod scan;
mod sql;
mod tables;
mod values;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{
    fault::Fault,
    pool::{Pool, Work},
};
use super::{
    DatabaseOptions,
    ledger::VersionCache,
    migrations::{self, HISTORY_TABLE},
    notices::{Follower, Notices},
    statements::StatementCache,
    table::{check_history, check_keys, check_rows, no_history},
};
use crate::{
    catalog::{Catalog, CatalogStore, FeatureView, Plan},
    error::{Error, Result},
    features::{
        EntityKey, LoadInput, Materialization, MaterializationRecord, OnlineStore, RowCache,
        RowSink, Scan, StoredRow, Timestamp, WriteCounts, WriteRow,
    },
    inference::{
        LedgerEntry, LedgerPage, LedgerSpan, LedgerStore, RecordedVersion, Release, ReleaseEvent,
        ReleaseStore,
    },
};

/// Loads go one after the other; this is how long one waits for those before it.
const LOAD_WAIT_MAX: Duration = Duration::from_secs(600);

/// Scans take as long as whoever takes the rows; reads do not wait for them.
const SCANNERS: usize = 2;

/// Features and the catalog in one SQLite file.
pub struct SqliteStore {
    writer: Pool,
    readers: Pool,
    scanners: Pool,
    loader: Pool,
    /// Writes the ledger: whoever writes features does not queue behind it for a connection.
    recorder: Pool,
    load_timeout: Duration,
    statements: StatementCache,
    versions: Arc<VersionCache>,
    /// Looks for notices, whoever reads meanwhile.
    watcher: Pool,
    notices: Arc<Notices>,
}

impl SqliteStore {
    /// Opens a file, or makes it, and its folder.
    ///
    /// # Errors
    /// `FailedPrecondition` where file or folder cannot be made, or the file cannot be opened, is not writable or no
    /// database; `Unavailable` where somebody else keeps it locked. The path is named.
    pub async fn open(path: &Path, options: &DatabaseOptions) -> Result<SqliteStore> {
        make_folder(path).await?;
        let pool = |size, is_read_only, acquire_timeout| {
            Pool::new(path, size, is_read_only, options, acquire_timeout)
        };
        let store = SqliteStore {
            writer: pool(1, false, options.acquire_timeout),
            readers: pool(options.pool_size.max(1), true, options.acquire_timeout),
            scanners: pool(SCANNERS, true, options.acquire_timeout),
            loader: pool(1, false, LOAD_WAIT_MAX),
            recorder: pool(1, false, options.acquire_timeout),
            load_timeout: options.load_timeout,
            statements: StatementCache::new(sql::build_statements),
            versions: Arc::default(),
            watcher: pool(1, true, options.acquire_timeout),
            notices: Arc::default(),
        };
        store.writer.run(Work::Statement, probe).await?;
        Ok(store)
    }

    /// Applies the migrations that the file has not had; returns their names.
    ///
    /// # Errors
    /// `FailedPrecondition` where the file is newer than this binary or a migration fails; nothing has changed then.
    pub async fn migrate(&self) -> Result<Vec<String>> {
        let done = self.writer.run(Work::Load, |connection| {
            let runner = migrations::for_sqlite();
            migrations::check_not_newer(&runner, &applied_versions(connection)?)?;
            connection.set_transaction_behavior(TransactionBehavior::Immediate);
            // Of two processes the slower one finds the tables made, and nothing to do when it looks again.
            let report = runner.run(connection).or_else(|_| runner.run(connection));
            connection.set_transaction_behavior(TransactionBehavior::Deferred);
            let applied = migrations::applied_names(&report.map_err(migrations::fault)?);
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tables::add_own_columns(&transaction)?;
            transaction.commit()?;
            Ok(applied)
        });
        done.await
    }

    /// Checks that the file's schema is the one that this binary knows.
    ///
    /// # Errors
    /// `FailedPrecondition` where it is behind or newer.
    pub async fn check_schema(&self) -> Result<()> {
        let checked = self.readers.run(Work::Statement, |connection| {
            let applied = applied_versions(connection)?;
            Ok(migrations::check_versions(
                &migrations::for_sqlite(),
                &applied,
            )?)
        });
        checked.await
    }

    /// Tells a cache what changes, from whichever process, until the stop.
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
        notices::follow(&self.watcher, &follower, stale_max, stop).await;
    }

    /// Tells every process that follows that some rows of a view have changed; without keys, any.
    pub(super) async fn tell(&self, view: &FeatureView, keys: Option<&[EntityKey]>) -> Result<()> {
        let notice = self.notices.of(view, keys);
        let told = self.writer.run(Work::Statement, move |connection| {
            notices::tell(connection, &notice)
        });
        told.await
    }
}

async fn make_folder(path: &Path) -> Result<()> {
    let Some(folder) = path.parent().filter(|folder| *folder != Path::new("")) else {
        return Ok(());
    };
    let made = tokio::fs::create_dir_all(folder).await;
    made.map_err(|fault| {
        let sentence = format!(
            "the folder {} for the SQLite file {} cannot be made: {fault}",
            folder.display(),
            path.display()
        );
        Error::failed_precondition(sentence).with_source(fault)
    })
}

/// The versions of the migrations that the file has had.
fn applied_versions(connection: &Connection) -> Result<Vec<i32>, Fault> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?";
    let history = connection
        .query_row(sql, [HISTORY_TABLE], |_| Ok(()))
        .optional()?;
    let mut applied = Vec::new();
    if history.is_some() {
        let sql = format!("SELECT version FROM {HISTORY_TABLE}");
        let mut select = connection.prepare(&sql)?;
        for version in select.query_map([], |row| row.get(0))? {
            applied.push(version?);
        }
    }
    Ok(applied)
}

/// Reads the file's header, which tells whether it is a database at all.
fn probe(connection: &mut Connection) -> Result<(), Fault> {
    Ok(connection.query_row("PRAGMA schema_version", [], |_| Ok(()))?)
}

#[async_trait]
impl OnlineStore for SqliteStore {
    async fn read(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<Vec<Option<StoredRow>>> {
        check_keys(view, keys)?;
        let statements = self.statements.of(view);
        let keys = keys.to_vec();
        let found = self.readers.run(Work::Statement, move |connection| {
            rows::read(connection, &statements, &keys)
        });
        found.await
    }

    async fn read_as_of(
        &self,
        view: &FeatureView,
        keys: &[EntityKey],
        at: Timestamp,
    ) -> Result<Vec<Option<StoredRow>>> {
        check_keys(view, keys)?;
        check_history(view)?;
        let (view, keys) = (view.clone(), keys.to_vec());
        let found = self.readers.run(Work::Statement, move |connection| {
            rows::read_as_of(connection, &view, &keys, at)
        });
        found.await
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
        let keys = rows.iter().map(|write| &write.key);
        let (writing, notice) = self.notices.write(view, keys);
        let written = self.writer.run(Work::Statement, move |connection| {
            rows::write(connection, &statements, rows, &notice)
        });
        let (counts, stored) = written.await?;
        // Where nothing took effect nothing was told.
        if counts.written > 0 {
            writing.settle();
        }
        Ok((counts, stored))
    }

    async fn load(
        &self,
        view: &FeatureView,
        input: LoadInput,
        note: &Materialization,
    ) -> Result<WriteCounts> {
        view.check_writable()?;
        let statements = self.statements.of(view);
        let notes = load::Notes {
            load: note.clone(),
            notice: self.notices.of(view, None),
        };
        let limit = self.load_timeout;
        let load = move |connection: &mut Connection, gone: &CancellationToken| {
            load::load(connection, &statements, input, &notes, limit, gone)
        };
        self.loader.run_for_caller(Work::Load, load).await
    }

    async fn materializations(&self, view: &str) -> Result<Vec<MaterializationRecord>> {
        let view = view.to_owned();
        let known = self.readers.run(Work::Statement, move |connection| {
            catalog::materializations(connection, &view)
        });
        known.await
    }

    async fn delete(&self, views: &[Arc<FeatureView>], key: &EntityKey) -> Result<u64> {
        for view in views {
            view.check_writable()?;
            check_keys(view, std::slice::from_ref(key))?;
        }
        let (views, key, notices) = (views.to_vec(), key.clone(), Arc::clone(&self.notices));
        let deleted = self.writer.run(Work::Statement, move |connection| {
            rows::delete(connection, &notices, &views, &key)
        });
        deleted.await
    }

    async fn scan(&self, view: &FeatureView, scan: Scan, sink: RowSink) -> Result<()> {
        // All rows of somebody else's table are its history.
        if scan.history && !view.history && view.table.is_none() {
            return Err(no_history(view));
        }
        let view = view.clone();
        let limit = self.load_timeout;
        let scan = move |connection: &mut Connection, _: &CancellationToken| {
            let done = scan::scan(connection, &view, scan, &sink, limit);
            done.map_err(|fault| fault.of_view(&view))
        };
        self.scanners.run_for_caller(Work::Load, scan).await
    }

    async fn ping(&self) -> Result<()> {
        self.readers.run(Work::Statement, probe).await
    }
}

#[async_trait]
impl CatalogStore for SqliteStore {
    async fn load_catalog(&self) -> Result<Catalog> {
        self.readers.run(Work::Statement, catalog::load).await
    }

    async fn catalog_revision(&self) -> Result<i64> {
        let revision = self
            .readers
            .run(Work::Statement, |connection| catalog::revision(connection));
        revision.await
    }

    async fn apply_plan(&self, plan: &Plan) -> Result<Catalog> {
        let (plan, notices) = (plan.clone(), Arc::clone(&self.notices));
        let applied = self.writer.run(Work::Load, move |connection| {
            catalog::apply(connection, &notices, &plan)
        });
        applied.await
    }
}

#[async_trait]
impl ReleaseStore for SqliteStore {
    async fn releases(&self) -> Result<BTreeMap<String, Release>> {
        self.readers.run(Work::Statement, releases::all).await
    }

    async fn releases_revision(&self) -> Result<i64> {
        self.readers.run(Work::Statement, releases::revision).await
    }

    async fn put_release(&self, release: &Release, event: &ReleaseEvent) -> Result<bool> {
        let (release, event) = (release.clone(), event.clone());
        let kept = self.writer.run(Work::Statement, move |connection| {
            releases::put(connection, &release, &event)
        });
        kept.await
    }

    async fn release_events(&self, model: &str, limit: usize) -> Result<Vec<ReleaseEvent>> {
        let model = model.to_owned();
        let found = self.readers.run(Work::Statement, move |connection| {
            releases::events(connection, &model, limit)
        });
        found.await
    }
}

#[async_trait]
impl LedgerStore for SqliteStore {
    async fn append_predictions(&self, entries: &Arc<[LedgerEntry]>) -> Result<()> {
        let entries = Arc::clone(entries);
        let appended = self.recorder.run(Work::Statement, move |connection| {
            ledger::append(connection, &entries)
        });
        appended.await
    }

    async fn prediction(&self, id: Uuid) -> Result<Option<LedgerEntry>> {
        let versions = Arc::clone(&self.versions);
        let found = self.readers.run(Work::Statement, move |connection| {
            ledger::one(connection, &versions, id)
        });
        found.await
    }

    async fn predictions(&self, span: &LedgerSpan, limit: usize) -> Result<LedgerPage> {
        let (versions, span) = (Arc::clone(&self.versions), span.clone());
        let found = self.readers.run(Work::Statement, move |connection| {
            ledger::page(connection, &versions, &span, limit)
        });
        found.await
    }

    async fn recorded_versions(&self, model: &str) -> Result<Vec<Arc<RecordedVersion>>> {
        let (versions, model) = (Arc::clone(&self.versions), model.to_owned());
        let found = self.readers.run(Work::Statement, move |connection| {
            ledger::versions(connection, &versions, &model)
        });
        found.await
    }

    async fn drop_predictions(&self, before: Timestamp) -> Result<bool> {
        ledger::drop_before(&self.recorder, before).await
    }
}
