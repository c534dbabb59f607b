//! The ledger: one table, a partition a day. Which partition a prediction is in follows from its id, so that looking one up
//! goes to one partition.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    fault::Fault,
    partitions,
    pool::Database,
    values::{Bound, Cell},
};
use crate::{
    error::{Error, Result},
    features::{ListValue, Timestamp, Value},
    inference::{LedgerEntry, LedgerPage, LedgerSpan, RecordedVersion, day_of},
    stores::ledger::{Found, LedgerRow, VersionCache, versions_of},
};

const COLUMNS: &str = "id, version_key, at, latency_us, score, role, label, entity, record";

/// Days whose partitions are remembered to be there.
const KNOWN_DAYS_MAX: usize = 16;

/// After a partition could not be made ahead, and before that is tried, and said, again.
const AHEAD_INTERVAL: Duration = Duration::from_secs(600);

/// What a store remembers of its ledger.
#[derive(Debug, Default)]
pub(super) struct LedgerState {
    pub(super) versions: VersionCache,
    /// Days that have a partition, as far as is known.
    days: Mutex<BTreeSet<u64>>,
    /// When a partition could not be made ahead.
    failed_ahead: Mutex<Option<Instant>>,
}

impl LedgerState {
    fn are_known(&self, days: &BTreeSet<u64>) -> bool {
        let known = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        days.is_subset(&known)
    }

    fn add_days(&self, days: &BTreeSet<u64>) {
        let mut known = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(days);
        while known.len() > KNOWN_DAYS_MAX {
            known.pop_first();
        }
    }

    /// Whether it is too soon to make a partition ahead again.
    fn has_failed_ahead(&self) -> bool {
        let failed = self.failed_ahead.lock();
        let failed = failed.unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|at| at.elapsed() < AHEAD_INTERVAL)
    }

    fn set_failed_ahead(&self) {
        let failed = self.failed_ahead.lock();
        *failed.unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// Predictions column by column, on a statement's way.
#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    version_keys: Vec<Uuid>,
    at: Vec<Timestamp>,
    latencies: Vec<i64>,
    scores: Vec<f64>,
    roles: Vec<i16>,
    labels: Vec<String>,
    entities: Vec<String>,
    records: Vec<Vec<u8>>,
}

impl Columns {
    fn of(entries: &[LedgerEntry]) -> Result<Columns> {
        let mut columns = Columns::default();
        for entry in entries {
            let row = LedgerRow::of(entry)?;
            columns.ids.push(row.id);
            columns.version_keys.push(row.version_key);
            columns.at.push(row.at);
            columns.latencies.push(row.latency_us);
            columns.scores.push(row.score);
            columns.roles.push(row.role);
            columns.labels.push(row.label);
            columns.entities.push(row.entity);
            columns.records.push(row.record);
        }
        Ok(columns)
    }
}

pub(super) async fn append(
    database: &Database,
    state: &LedgerState,
    entries: &Arc<[LedgerEntry]>,
) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let days: BTreeSet<u64> = entries.iter().map(|entry| day_of(entry.id)).collect();
    let owned = Arc::clone(entries);
    let encoded = tokio::task::spawn_blocking(move || Columns::of(&owned));
    let columns = encoded
        .await
        .map_err(|fault| Error::internal("encoding predictions failed").with_source(fault))??;
    if !state.are_known(&days) {
        partitions::make(database, &days).await?;
        state.add_days(&days);
    }
    let inserted = match insert(database, entries, &columns).await {
        // Somebody has dropped the partition of a day that was known.
        Err(fault) if partitions::is_missing(&fault) => {
            partitions::make(database, &days).await?;
            insert(database, entries, &columns).await
        }
        done => done,
    };
    inserted.map_err(|fault| fault.at(database.target()))?;
    make_ahead(database, state, days.last().map(|last| last + 1)).await;
    Ok(())
}

/// Makes the partition of the next day, so that nobody waits for it at midnight. Where that fails, today's predictions are
/// written all the same.
async fn make_ahead(database: &Database, state: &LedgerState, next: Option<u64>) {
    let days: BTreeSet<u64> = next.into_iter().collect();
    if state.are_known(&days) || state.has_failed_ahead() {
        return;
    }
    match partitions::make(database, &days).await {
        Ok(()) => state.add_days(&days),
        Err(fault) => {
            state.set_failed_ahead();
            tracing::warn!(
                %fault,
                "the ledger's partition of tomorrow could not be made; what is predicted then cannot be written before it is there"
            );
        }
    }
}

async fn insert(
    database: &Database,
    entries: &[LedgerEntry],
    columns: &Columns,
) -> Result<(), Fault> {
    let mut lease = database.lease().await?;
    let client = lease.client()?;
    let work = Box::pin(async {
        let transaction = client.transaction().await?;
        put_versions(&transaction, entries).await?;
        put_rows(&transaction, columns).await?;
        transaction.commit().await?;
        Ok::<_, Fault>(())
    });
    let done = database.bounded(work).await;
    lease.settle(done)
}

async fn put_versions(transaction: &Transaction<'_>, entries: &[LedgerEntry]) -> Result<(), Fault> {
    let statement = transaction
        .prepare_cached(
            "INSERT INTO ferrocast_prediction_versions (key, model, version, digest, description) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (key) DO NOTHING",
        )
        .await?;
    for (version, text) in versions_of(entries)? {
        let model = &version.model;
        transaction
            .execute(
                &statement,
                &[
                    &version.key,
                    model,
                    &version.version,
                    &version.digest,
                    &text,
                ],
            )
            .await?;
    }
    Ok(())
}

async fn put_rows(transaction: &Transaction<'_>, columns: &Columns) -> Result<(), Fault> {
    let sql = format!(
        "INSERT INTO ferrocast_predictions ({COLUMNS}) SELECT * FROM unnest(\
         $1::uuid[], $2::uuid[], $3::timestamptz[], $4::bigint[], $5::double precision[], $6::smallint[], \
         $7::text[], $8::text[], $9::bytea[]) ON CONFLICT (id) DO NOTHING"
    );
    let statement = transaction.prepare_cached(&sql).await?;
    let at = Value::List(ListValue::Timestamp(columns.at.clone()));
    transaction
        .execute(
            &statement,
            &[
                &columns.ids,
                &columns.version_keys,
                &Bound(&at),
                &columns.latencies,
                &columns.scores,
                &columns.roles,
                &columns.labels,
                &columns.entities,
                &columns.records,
            ],
        )
        .await?;
    Ok(())
}

pub(super) async fn one(
    database: &Database,
    state: &LedgerState,
    id: Uuid,
) -> Result<Option<LedgerEntry>> {
    let mut lease = database.lease().await?;
    let asked = async {
        let client = lease.client()?;
        let sql = format!("SELECT {COLUMNS} FROM ferrocast_predictions WHERE id = $1");
        let statement = client.prepare_cached(&sql).await?;
        let Some(row) = client.query_opt(&statement, &[&id]).await? else {
            return Ok(None);
        };
        let row = read_row(&row)?;
        learn(client, &state.versions, [row.version_key]).await?;
        Ok::<_, Fault>(Some(state.versions.entry(row)?))
    };
    let answer = database.bounded(asked).await;
    let answer = lease.settle(answer);
    answer.map_err(|fault| fault.at(database.target()))
}

pub(super) async fn page(
    database: &Database,
    state: &LedgerState,
    span: &LedgerSpan,
    limit: usize,
) -> Result<LedgerPage> {
    let count = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut lease = database.lease().await?;
    let asked = async {
        let client = lease.client()?;
        // Rows of other models are looked at, and their long columns not sent: so a page is bounded by what is looked at.
        let statement = client.prepare_cached(PAGE).await?;
        let rows = client
            .query(&statement, &[&span.first, &span.end, &count, &span.model])
            .await?;
        let mut found = Found {
            looked_at: rows.len(),
            last: rows.last().map(|row| row.try_get(0)).transpose()?,
            rows: Vec::new(),
        };
        for row in &rows {
            if row.try_get(9)? {
                found.rows.push(read_row(row)?);
            }
        }
        let keys: Vec<Uuid> = found.rows.iter().map(|row| row.version_key).collect();
        learn(client, &state.versions, keys).await?;
        Ok::<_, Fault>(found.into_page(&state.versions, span, limit)?)
    };
    let answer = database.bounded(Box::pin(asked)).await;
    let answer = lease.settle(answer);
    answer.map_err(|fault| fault.at(database.target()))
}

const PAGE: &str = "\
    SELECT p.id, p.version_key, p.at, p.latency_us, p.score, p.role, p.label, \
    CASE WHEN wanted.is_wanted THEN p.entity ELSE '' END, CASE WHEN wanted.is_wanted THEN p.record ELSE '' END, \
    wanted.is_wanted \
    FROM (SELECT * FROM ferrocast_predictions WHERE id >= $1 AND id < $2 ORDER BY id LIMIT $3) p \
    CROSS JOIN LATERAL (SELECT $4::text IS NULL OR EXISTS ( \
        SELECT FROM ferrocast_prediction_versions v WHERE v.key = p.version_key AND v.model = $4) AS is_wanted) wanted \
    ORDER BY p.id";

pub(super) async fn versions(
    database: &Database,
    state: &LedgerState,
    model: &str,
) -> Result<Vec<Arc<RecordedVersion>>> {
    let mut lease = database.lease().await?;
    let asked = async {
        let client = lease.client()?;
        let sql = "SELECT key, description FROM ferrocast_prediction_versions WHERE model = $1";
        let statement = client.prepare_cached(sql).await?;
        let mut found = Vec::new();
        for row in client.query(&statement, &[&model]).await? {
            let text: String = row.try_get(1)?;
            found.push(state.versions.learn(row.try_get(0)?, &text)?);
        }
        Ok::<_, Fault>(found)
    };
    let answer = database.bounded(asked).await;
    let answer = lease.settle(answer);
    answer.map_err(|fault| fault.at(database.target()))
}

/// Reads the versions of some keys that have not been read yet.
async fn learn(
    client: &deadpool_postgres::ClientWrapper,
    versions: &VersionCache,
    keys: impl IntoIterator<Item = Uuid>,
) -> Result<(), Fault> {
    let unknown = versions.unknown(keys);
    if unknown.is_empty() {
        return Ok(());
    }
    let sql = "SELECT key, description FROM ferrocast_prediction_versions WHERE key = ANY($1)";
    let statement = client.prepare_cached(sql).await?;
    for row in client.query(&statement, &[&unknown]).await? {
        let text: String = row.try_get(1)?;
        versions.learn(row.try_get(0)?, &text)?;
    }
    Ok(())
}

fn read_row(row: &Row) -> Result<LedgerRow, Fault> {
    let at: Cell = row.try_get(2)?;
    Ok(LedgerRow {
        id: row.try_get(0)?,
        version_key: row.try_get(1)?,
        at: at.timestamp().unwrap_or(Timestamp::EPOCH),
        latency_us: row.try_get(3)?,
        score: row.try_get(4)?,
        role: row.try_get(5)?,
        label: row.try_get(6)?,
        entity: row.try_get(7)?,
        record: row.try_get(8)?,
    })
}
