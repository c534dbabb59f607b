//! The ledger's partitions: made before they are needed, dropped as a whole when their day is too old.

use std::collections::BTreeSet;

use deadpool_postgres::Transaction;
use jiff::civil::Date;
use tokio_postgres::error::SqlState;

use super::{fault::Fault, pool::Database};
use crate::{
    error::{Error, Result},
    features::Timestamp,
    inference::{day_at, first_id_of_day},
};

/// The partitioned table; a partition's name is this, `_` and the day, as `ferrocast_predictions_20261121`.
const TABLE: &str = "ferrocast_predictions";

/// Held while partitions are made or dropped; any number that nobody else takes ("ferroled").
const LOCK: i64 = 0x6665_7272_6f6c_6564;

/// Dropping a partition locks the whole table: rather than letting everybody wait behind it, it is tried again later.
const DROP_LOCK_WAIT: &str = "SET LOCAL lock_timeout = '500ms'";

/// Makes the partitions of some days, where they are not there. Safe from several servers at once.
///
/// Made apart and then attached: others go on writing and reading, which `CREATE TABLE … PARTITION OF` would not let them.
///
/// # Errors
/// `Unavailable` where the database is away; `FailedPrecondition` where the role may make no table.
pub(super) async fn make(database: &Database, days: &BTreeSet<u64>) -> Result<()> {
    let mut lease = database.lease().await?;
    let client = lease.client()?;
    let work = Box::pin(async {
        let transaction = client.transaction().await?;
        transaction
            .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
            .await?;
        let there: BTreeSet<u64> = all(&transaction).await?.into_iter().collect();
        for day in days.difference(&there) {
            let name = name_of(*day)?;
            let (first, end) = (first_id_of_day(*day), first_id_of_day(day + 1));
            transaction
                .batch_execute(&format!(
                    "CREATE TABLE {name} (LIKE {TABLE} INCLUDING ALL); \
                     ALTER TABLE {TABLE} ATTACH PARTITION {name} FOR VALUES FROM ('{first}') TO ('{end}')"
                ))
                .await?;
        }
        transaction.commit().await?;
        Ok::<_, Fault>(())
    });
    let done = database.bounded(work).await;
    let done = lease.settle(done);
    done.map_err(|fault| fault.at(database.target()))
}

/// Whether a write failed for want of a partition.
pub(super) fn is_missing(fault: &Fault) -> bool {
    matches!(fault, Fault::Driver(error) if error.code() == Some(&SqlState::CHECK_VIOLATION))
}

/// Drops the partitions of days that ended before a point in time or at it; says whether there was one.
///
/// # Errors
/// `Unavailable` where the database is away, or where others read what is to be dropped.
pub(super) async fn drop_before(database: &Database, before: Timestamp) -> Result<bool> {
    let first_kept = day_at(before);
    let mut is_any = false;
    while drop_one(database, first_kept).await? {
        is_any = true;
    }
    Ok(is_any)
}

/// Drops the oldest partition, if it is too old: one a transaction, so that each lock is short.
async fn drop_one(database: &Database, first_kept: u64) -> Result<bool> {
    let mut lease = database.lease().await?;
    let client = lease.client()?;
    let work = Box::pin(async {
        let transaction = client.transaction().await?;
        transaction.batch_execute(DROP_LOCK_WAIT).await?;
        transaction
            .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
            .await?;
        let oldest = all(&transaction).await?.into_iter().min();
        let Some(oldest) = oldest.filter(|day| *day < first_kept) else {
            transaction.rollback().await?;
            return Ok(false);
        };
        let name = name_of(oldest)?;
        transaction
            .batch_execute(&format!("DROP TABLE {name}"))
            .await?;
        transaction.commit().await?;
        Ok::<_, Fault>(true)
    });
    let done = database.bounded(work).await;
    let done = lease.settle(done);
    done.map_err(|fault| fault.at(database.target()))
}

/// The days that have a partition. A partition of another name is somebody else's business.
async fn all(transaction: &Transaction<'_>) -> Result<Vec<u64>, Fault> {
    let found = transaction
        .query(
            "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
             WHERE i.inhparent = $1::text::regclass",
            &[&TABLE],
        )
        .await?;
    let mut days = Vec::with_capacity(found.len());
    for row in found {
        let name: String = row.try_get(0)?;
        days.extend(day_of_name(&name));
    }
    Ok(days)
}

const EPOCH: Date = jiff::civil::date(1970, 1, 1);

/// That of 9999-12-31, counted from 1970-01-01.
const LAST_DAY: u64 = 2_932_896;

fn name_of(day: u64) -> Result<String> {
    let date = i64::try_from(day.min(LAST_DAY)).ok().and_then(|day| {
        EPOCH
            .checked_add(jiff::SignedDuration::from_hours(day * 24))
            .ok()
    });
    let date = date.filter(|_| day <= LAST_DAY);
    let date = date.ok_or_else(|| Error::internal("a prediction of a day beyond the year 9999"))?;
    Ok(format!(
        "{TABLE}_{:04}{:02}{:02}",
        date.year(),
        date.month(),
        date.day()
    ))
}

fn day_of_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(TABLE)?.strip_prefix('_')?;
    if digits.len() != 8 {
        return None;
    }
    let date: Date = digits.parse().ok()?;
    let days = date.duration_since(EPOCH).as_hours() / 24;
    u64::try_from(days).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_day_has_a_name_and_a_name_a_day() {
        let day = day_at(Timestamp::parse("2026-11-21T12:00:00Z").unwrap());
        assert_eq!(name_of(day).unwrap(), "ferrocast_predictions_20261121");
        for day in [0, 1, 10_000, 20_777, day] {
            assert_eq!(day_of_name(&name_of(day).unwrap()), Some(day));
        }
        // The last day that an id can tell is far beyond.
        assert!(name_of(u64::MAX >> 16).is_err());
        for other in [
            "ferrocast_predictions_2026",
            "ferrocast_predictions_archive",
            "x",
        ] {
            assert_eq!(day_of_name(other), None, "{other}");
        }
    }
}
