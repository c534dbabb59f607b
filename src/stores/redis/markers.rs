//! Whether Redis still holds all rows: keys that a refill sets at its end and that go with the rows.
//!
//! A single server's first marker is read together with the rows. A cluster's are asked for at an interval, one in every
//! part of the slots, so that a node which came back empty is noticed within it.

use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use redis::Value as Answer;
use tokio::time::Instant;

use super::{RedisStore, key::Keys};
use crate::{
    error::{Error, Result},
    features::Timestamp,
};

/// What this process knows of the markers.
#[derive(Default)]
pub(super) struct Fill {
    was_filled: AtomicBool,
    asked: RwLock<Option<(Instant, bool)>>,
    first: std::sync::OnceLock<String>,
}

impl Fill {
    /// The marker that a single server's reads look at.
    pub(super) fn first_marker(&self, keys: &Keys) -> &str {
        self.first
            .get_or_init(|| keys.filled().into_iter().next().unwrap_or_default())
    }

    fn known(&self) -> Option<(Instant, bool)> {
        *self.asked.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RedisStore {
    /// Whether the last read found all markers; no answer of Redis is waited for.
    pub(in crate::stores) fn was_filled(&self) -> bool {
        self.fill.was_filled.load(Ordering::Relaxed)
    }

    /// Notes what a read found.
    pub(super) fn note_filled(&self, is_filled: bool) {
        self.fill.was_filled.store(is_filled, Ordering::Relaxed);
        if !is_filled {
            self.schemas.forget_told();
        }
    }

    /// Whether a cluster has all markers, as of the probe interval at the most.
    pub(super) async fn is_cluster_filled(&self) -> Result<bool> {
        match self.fill.known() {
            Some((at, is_filled)) if at.elapsed() < self.options.probe_interval => Ok(is_filled),
            _ => self.is_filled().await,
        }
    }

    /// Asks for all markers.
    pub(in crate::stores) async fn is_filled(&self) -> Result<bool> {
        let asked_at = Instant::now();
        let answers = self.get_all(self.keys.filled()).await?;
        let is_filled = answers.iter().all(|answer| *answer != Answer::Nil);
        self.learn(asked_at, is_filled);
        Ok(is_filled)
    }

    /// Says that all rows are there.
    pub(in crate::stores) async fn mark_filled(&self) -> Result<()> {
        self.set_all(self.keys.filled(), &Timestamp::now().to_string())
            .await?;
        self.learn(Instant::now(), true);
        Ok(())
    }

    /// Says that rows are missing.
    pub(in crate::stores) async fn mark_unfilled(&self) -> Result<()> {
        self.remove_all(self.keys.filled()).await?;
        self.learn(Instant::now(), false);
        Ok(())
    }

    /// Begins a refill; what is returned belongs into `end_refill`.
    pub(in crate::stores) async fn begin_refill(&self) -> Result<String> {
        self.schemas.forget_told();
        let token = uuid::Uuid::now_v7().to_string();
        self.set_all(self.keys.filling(), &token).await?;
        Ok(token)
    }

    /// Ends a refill: all rows are there, unless some node has lost its data meanwhile.
    ///
    /// # Errors
    /// `Unavailable` where it has, or where another refill began after this one.
    pub(in crate::stores) async fn end_refill(&self, token: &str) -> Result<()> {
        let answers = self.get_all(self.keys.filling()).await?;
        let is_ours = |answer: &Answer| *answer == Answer::BulkString(token.as_bytes().to_vec());
        if !answers.iter().all(is_ours) {
            return Err(Error::unavailable(format!(
                "Redis at {} lost data during the refill, or another one began; run `ferrocast refill` again",
                self.address()
            )));
        }
        self.mark_filled().await?;
        self.remove_all(self.keys.filling()).await
    }

    fn learn(&self, at: Instant, is_filled: bool) {
        let asked = &mut *self
            .fill
            .asked
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *asked = Some((at, is_filled));
        self.note_filled(is_filled);
    }

    async fn get_all(&self, keys: Vec<String>) -> Result<Vec<Answer>> {
        let mut command = redis::cmd("MGET");
        command.arg(keys);
        match self.run(&command).await? {
            Answer::Array(answers) => Ok(answers),
            _ => Err(self.nonsense("MGET")),
        }
    }

    async fn set_all(&self, keys: Vec<String>, value: &str) -> Result<()> {
        let mut command = redis::cmd("MSET");
        for key in keys {
            command.arg(key).arg(value);
        }
        self.run(&command).await.map(|_| ())
    }

    async fn remove_all(&self, keys: Vec<String>) -> Result<()> {
        let mut command = redis::cmd("UNLINK");
        command.arg(keys);
        self.run(&command).await.map(|_| ())
    }

    /// Warns of a server that may throw rows away when its memory is full. One that does not tell is not asked twice:
    /// hosted ones mostly do not allow CONFIG.
    pub(super) async fn warn_of_eviction(&self) {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg("maxmemory-policy");
        let Ok(answers) = self.link.run_everywhere(&command).await else {
            tracing::debug!("Redis does not tell its maxmemory-policy");
            return;
        };
        for (_, answer) in answers {
            let told = redis::from_redis_value::<Vec<(String, String)>>(answer);
            let policy = told.ok().and_then(|mut pairs| pairs.pop());
            if let Some((_, policy)) = policy
                && policy != "noeviction"
            {
                tracing::warn!(
                    redis = self.address(),
                    policy,
                    "Redis may throw features away when its memory is full; set maxmemory-policy to noeviction"
                );
            }
        }
    }
}
