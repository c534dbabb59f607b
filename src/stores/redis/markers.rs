//! Whether Redis still holds all rows: keys that a refill sets at its end and that go with the rows.
//!
//! A single server's first marker is read together with the rows. A cluster's are asked for by a task at an interval, one
//! in every part of the slots, so that a node which came back empty is noticed within it. A node that is away has lost
//! nothing yet: the entities of the others are read meanwhile.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use redis::Value as Answer;

use super::{RedisStore, key::Keys};
use crate::{
    error::{Error, Result},
    features::Timestamp,
};

/// What this process knows of the markers.
#[derive(Default)]
pub(super) struct Fill {
    is_filled: AtomicBool,
    first: OnceLock<String>,
}

impl Fill {
    /// The marker that a single server's reads look at.
    pub(super) fn first_marker(&self, keys: &Keys) -> &str {
        self.first
            .get_or_init(|| keys.filled().into_iter().next().unwrap_or_default())
    }
}

/// Asks a cluster for its markers at an interval, until the store is gone.
pub(super) fn watch(store: &Arc<RedisStore>, interval: Duration) {
    let watched = Arc::downgrade(store);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(interval).await;
            let Some(store) = Weak::upgrade(&watched) else {
                return;
            };
            if let Err(fault) = store.is_filled().await {
                tracing::debug!(%fault, "a node of Redis does not tell whether it lost its data");
            }
        }
    });
}

impl RedisStore {
    /// Whether all markers were there when last looked at; no answer of Redis is waited for.
    pub(in crate::stores) fn was_filled(&self) -> bool {
        self.fill.is_filled.load(Ordering::Relaxed)
    }

    /// Notes whether all markers are there.
    pub(super) fn note_filled(&self, is_filled: bool) {
        self.fill.is_filled.store(is_filled, Ordering::Relaxed);
        if !is_filled {
            self.schemas.forget_told();
        }
    }

    /// Asks for all markers. One that is missing says enough; one that no node tells of says nothing.
    ///
    /// # Errors
    /// `Unavailable` where no node answers.
    pub(in crate::stores) async fn is_filled(&self) -> Result<bool> {
        let mut is_filled = true;
        let mut fault = None;
        let mut is_told = false;
        for answer in self.get_all(self.keys.filled()).await {
            match answer {
                Ok(answer) => {
                    is_told = true;
                    is_filled &= answer != Answer::Nil;
                }
                Err(error) => fault = Some(error),
            }
        }
        match fault {
            Some(fault) if !is_told => Err(fault),
            _ => {
                self.note_filled(is_filled);
                Ok(is_filled)
            }
        }
    }

    /// Says that all rows are there.
    pub(in crate::stores) async fn mark_filled(&self) -> Result<()> {
        self.set_all(self.keys.filled(), &Timestamp::now().to_string())
            .await?;
        self.note_filled(true);
        Ok(())
    }

    /// Says that rows are missing.
    pub(in crate::stores) async fn mark_unfilled(&self) -> Result<()> {
        self.remove_all(self.keys.filled()).await?;
        self.note_filled(false);
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
        let answers = self.get_all(self.keys.filling()).await.into_iter();
        let answers: Vec<Answer> = answers.collect::<Result<_>>()?;
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

    /// The values of some keys, each asked for alone: nodes that are away keep no other's from being known.
    async fn get_all(&self, keys: Vec<String>) -> Vec<Result<Answer>> {
        let count = keys.len().max(1);
        let asked = keys.into_iter().map(|key| async move {
            let mut command = redis::cmd("GET");
            command.arg(key);
            self.run(&command).await
        });
        stream::iter(asked).buffered(count).collect().await
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
