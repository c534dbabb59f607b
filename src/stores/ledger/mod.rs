//! The ledger as both databases keep it: the columns of a prediction, and the versions that they refer to.

mod record;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use uuid::Uuid;

use self::record::Record;
use crate::{
    error::{Error, Result},
    features::{RawValue, Timestamp},
    inference::{LedgerEntry, LedgerPage, LedgerSpan, RecordedVersion, Role, id_after},
};

/// Versions that are remembered; more than ever predict between two restarts.
const VERSIONS_MAX: usize = 10_000;

/// A prediction, a field a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LedgerRow {
    pub(super) id: Uuid,
    pub(super) version_key: Uuid,
    pub(super) at: Timestamp,
    pub(super) latency_us: i64,
    pub(super) score: f64,
    pub(super) role: i16,
    pub(super) label: String,
    pub(super) entity: String,
    pub(super) record: Vec<u8>,
}

impl LedgerRow {
    /// The columns of a prediction.
    ///
    /// # Errors
    /// `Internal` for a prediction that does not fit its version.
    pub(super) fn of(entry: &LedgerEntry) -> Result<LedgerRow> {
        Ok(LedgerRow {
            id: entry.id,
            version_key: entry.version.key,
            at: entry.at,
            latency_us: i64::try_from(entry.latency.as_micros()).unwrap_or(i64::MAX),
            score: entry.score,
            role: match entry.role {
                Role::Answer => 0,
                Role::Shadow => 1,
            },
            // For people: the record has its position. PostgreSQL's text holds no NUL.
            label: entry.label().replace('\0', "\u{fffd}"),
            entity: entity_json(&entry.entity),
            record: record::encode(entry)?,
        })
    }

    /// The prediction of these columns.
    ///
    /// # Errors
    /// `FailedPrecondition` where a newer ferrocast wrote it, or something else did.
    pub(super) fn into_entry(self, version: &Arc<RecordedVersion>) -> Result<LedgerEntry> {
        let unread = |fault: String| {
            Error::failed_precondition(format!(
                "the prediction {} is not one that this ferrocast understands: {fault}",
                self.id
            ))
        };
        let record: Record = record::decode(&self.record, version, self.at).map_err(&unread)?;
        Ok(LedgerEntry {
            id: self.id,
            at: self.at,
            version: Arc::clone(version),
            role: match self.role {
                0 => Role::Answer,
                1 => Role::Shadow,
                other => return Err(unread(format!("its role is {other}"))),
            },
            entity: entity_of(&self.entity).map_err(&unread)?,
            values: record.values,
            violations: record.violations,
            outputs: record.outputs,
            score: record.score,
            label: record.label,
            latency: Duration::from_micros(u64::try_from(self.latency_us).unwrap_or_default()),
        })
    }
}

/// An entity as a JSON object.
fn entity_json(entity: &[(String, RawValue)]) -> String {
    let fields = entity.iter();
    let fields = fields.map(|(name, value)| (name.clone(), value.to_json()));
    serde_json::Value::Object(fields.collect()).to_string()
}

fn entity_of(json: &str) -> std::result::Result<Vec<(String, RawValue)>, String> {
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(json).map_err(|fault| format!("its entity: {fault}"))?;
    let fields = fields.into_iter();
    Ok(fields
        .map(|(name, value)| (name, RawValue::from_json(value)))
        .collect())
}

/// The versions of some predictions, each once, with the text that is kept of it.
///
/// # Errors
/// `Internal` where JSON cannot hold one.
pub(super) fn versions_of(entries: &[LedgerEntry]) -> Result<Vec<(Arc<RecordedVersion>, String)>> {
    let mut seen = BTreeSet::new();
    let mut versions = Vec::new();
    for entry in entries {
        if seen.insert(entry.version.key) {
            versions.push((Arc::clone(&entry.version), entry.version.to_json()?));
        }
    }
    Ok(versions)
}

/// Versions that were read: they never change.
#[derive(Debug, Default)]
pub(super) struct VersionCache {
    by_key: Mutex<HashMap<Uuid, Arc<RecordedVersion>>>,
}

impl VersionCache {
    /// Those of some keys that have not been read yet.
    pub(super) fn unknown(&self, keys: impl IntoIterator<Item = Uuid>) -> Vec<Uuid> {
        let known = self.lock();
        let keys: BTreeSet<Uuid> = keys.into_iter().collect();
        keys.into_iter()
            .filter(|key| !known.contains_key(key))
            .collect()
    }

    /// Remembers a version by the text that is kept of it.
    ///
    /// # Errors
    /// `FailedPrecondition` where it is not what this binary understands.
    pub(super) fn learn(&self, key: Uuid, text: &str) -> Result<Arc<RecordedVersion>> {
        let version = Arc::new(RecordedVersion {
            // As the predictions refer to it, whoever wrote the text.
            key,
            ..RecordedVersion::from_json(text)?
        });
        let mut known = self.lock();
        if known.len() >= VERSIONS_MAX {
            known.clear();
        }
        known.insert(key, Arc::clone(&version));
        Ok(version)
    }

    /// A prediction of its columns.
    ///
    /// # Errors
    /// As `LedgerRow::into_entry`; `FailedPrecondition` where the version is not in the database.
    pub(super) fn entry(&self, row: LedgerRow) -> Result<LedgerEntry> {
        let version = self.lock().get(&row.version_key).cloned();
        let version = version.ok_or_else(|| {
            Error::failed_precondition(format!(
                "the prediction {} is of a version that ferrocast_prediction_versions does not have",
                row.id
            ))
        })?;
        row.into_entry(&version)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<RecordedVersion>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was found of a span: how many rows were looked at, the last of them, and those that are of the model asked for.
pub(super) struct Found {
    pub(super) looked_at: usize,
    pub(super) last: Option<Uuid>,
    pub(super) rows: Vec<LedgerRow>,
}

impl Found {
    /// The page of a span that was asked for with a limit.
    ///
    /// # Errors
    /// As `VersionCache::entry`.
    pub(super) fn into_page(
        self,
        versions: &VersionCache,
        span: &LedgerSpan,
        limit: usize,
    ) -> Result<LedgerPage> {
        let next = self.last.map(id_after);
        let next = next.filter(|next| self.looked_at >= limit && *next < span.end);
        let rows = self.rows.into_iter();
        let entries = rows.map(|row| versions.entry(row)).collect::<Result<_>>()?;
        Ok(LedgerPage { entries, next })
    }
}
