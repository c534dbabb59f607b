//! Notices of changes between servers, by NOTIFY and LISTEN.
//!
//! One connection listens. What Postgres passes on can be lost: the connection may end, or go silent, and a pooler between
//! may pass nothing on at all. So another connection sends a sign of life again and again, and only what has been heard
//! back counts: Postgres passes notices on in the order of their commits, so that whoever hears a sign has heard of
//! everything that was committed before it was sent.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    time::{interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    fault::{Bound, Fault},
    pool::Database,
};
use crate::stores::notices::Follower;

/// Where notices are sent.
const CHANNEL: &str = "ferrocast_rows";

const LISTEN: &str = "LISTEN ferrocast_rows";

/// What a sign of life begins with; no notice does.
const SIGN: &str = "sign";

/// Notices that may wait to be heeded; more wait in the connection.
const NOTICES_WAITING_MAX: usize = 1_024;

/// Signs of life that are sent within the bound, so that one late one does no harm.
const SIGNS_PER_BOUND: u32 = 4;

/// Between two attempts to listen anew.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(50);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(2);

/// The SQL that sends a notice, at the commit of the transaction that it is part of.
pub(super) fn tell(notice: &str) -> String {
    format!(
        "SELECT pg_notify('{CHANNEL}', '{}')",
        notice.replace('\'', "''")
    )
}

/// Tells a cache what changes, until the stop; while nothing can be heard the cache answers nothing.
pub(super) async fn follow(
    database: &Database,
    follower: &Follower,
    stale_max: Duration,
    stop: &CancellationToken,
) {
    let mut wait = RETRY_WAIT_MIN;
    let mut is_failing = false;
    loop {
        let mut has_heard = false;
        let session = Box::pin(session(database, follower, stale_max, &mut has_heard));
        let ended = stop.run_until_cancelled(session).await;
        follower.cache.lost_touch();
        let Some(Err(fault)) = ended else {
            return;
        };
        if has_heard {
            (wait, is_failing) = (RETRY_WAIT_MIN, false);
        }
        // Said once: health tells whether the store is away.
        if !is_failing {
            is_failing = true;
            let fault = fault.at(database.target());
            tracing::warn!(%fault, "changes of rows cannot be followed, so the cache is not used; trying on");
        }
        if stop.run_until_cancelled(sleep(wait)).await.is_none() {
            return;
        }
        wait = (wait * 2).min(RETRY_WAIT_MAX);
    }
}

/// Listens for as long as signs of life come back; notes whether any did.
async fn session(
    database: &Database,
    follower: &Follower,
    stale_max: Duration,
    has_heard: &mut bool,
) -> Result<Infallible, Fault> {
    let (heard, notices) = mpsc::channel(NOTICES_WAITING_MAX);
    let listener = database.listener(heard).await?;
    let listen = listener.client.batch_execute(LISTEN);
    database.bounded(listen).await?;
    let teller = database.lone_client().await?;
    follower.begin();
    let since = Instant::now();
    let own = format!("{SIGN} {:016x} ", fastrand::u64(..));
    let hearing = hear(follower, notices, &own, since, stale_max, has_heard);
    let signing = sign(database, &teller.client, &own, since, stale_max);
    let ended = tokio::select! {
        ended = hearing => ended,
        ended = signing => ended,
    };
    // Neither has a statement that is worth a cancelling.
    listener.settle();
    teller.settle();
    ended
}

/// Sends signs of life, each with its time.
async fn sign(
    database: &Database,
    client: &tokio_postgres::Client,
    own: &str,
    since: Instant,
    stale_max: Duration,
) -> Result<Infallible, Fault> {
    let mut ticks = interval((stale_max / SIGNS_PER_BOUND).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sent_micros = since.elapsed().as_micros();
        let sql = tell(&format!("{own}{sent_micros}"));
        database.bounded(client.batch_execute(&sql)).await?;
    }
}

/// Heeds what is heard.
async fn hear(
    follower: &Follower,
    mut notices: mpsc::Receiver<String>,
    own: &str,
    since: Instant,
    stale_max: Duration,
    has_heard: &mut bool,
) -> Result<Infallible, Fault> {
    // A server that is only slow is not left at once: the cache stops to answer by itself.
    let bound = Bound {
        limit: stale_max.saturating_mul(SIGNS_PER_BOUND),
        setting: "cache.stale_ms_max",
    };
    let mut last_sign_at = Instant::now();
    loop {
        let silence_max = bound.limit.saturating_sub(last_sign_at.elapsed());
        let heard = timeout(silence_max, notices.recv()).await;
        let notice = heard.map_err(|_| Fault::Timeout(bound))?;
        let notice = notice.ok_or_else(Fault::connection_lost)?;
        if let Some(sent_micros) = notice.strip_prefix(own) {
            last_sign_at = Instant::now();
            *has_heard = true;
            if let Ok(sent_micros) = sent_micros.parse() {
                let sent_at = since + Duration::from_micros(sent_micros);
                follower.cache.told_up_to(sent_at);
            }
        } else if !notice.starts_with(SIGN) {
            follower.heed(&notice);
        }
    }
}
