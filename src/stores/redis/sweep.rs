//! Taking keys away by what they belong to: SCAN on every node, UNLINK of what is ours.

use redis::Value as Answer;

use super::RedisStore;
use crate::error::Result;

/// Keys that a node looks at in one step.
const SCAN_KEYS: usize = 1_000;

impl RedisStore {
    /// Takes away all rows of some views, and what is noted of their loads; returns how many rows there were.
    pub(in crate::stores) async fn remove_views(&self, views: &[&str]) -> Result<u64> {
        let notes = views.iter().map(|view| self.keys.owing(view).into_bytes());
        self.unlink(notes.collect()).await?;
        self.sweep(|key| {
            self.keys
                .view_of(key)
                .is_some_and(|view| views.contains(&view))
        })
        .await
    }

    /// Takes away all rows and what they mean; returns how many keys there were.
    pub(in crate::stores) async fn remove_everything(&self) -> Result<u64> {
        let removed = self
            .sweep(|key| self.keys.view_of(key).is_some() || self.keys.is_schema(key))
            .await?;
        self.schemas.forget_told();
        Ok(removed)
    }

    async fn sweep(&self, is_meant: impl Fn(&[u8]) -> bool) -> Result<u64> {
        let mut removed = 0;
        let first = self.link.run_everywhere(&self.scan_from("0")).await;
        for (node, answer) in first.map_err(|fault| fault.at(self.address()))? {
            let mut answer = answer;
            loop {
                let (cursor, keys) = self.scanned(answer)?;
                let meant = keys.into_iter().filter(|key| is_meant(key)).collect();
                removed += self.unlink(meant).await?;
                if cursor == "0" {
                    break;
                }
                let next = self.link.run_on(&node, &self.scan_from(&cursor)).await;
                answer = next.map_err(|fault| fault.at(self.address()))?;
            }
        }
        Ok(removed)
    }

    fn scan_from(&self, cursor: &str) -> redis::Cmd {
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(self.keys.pattern());
        command.arg("COUNT").arg(SCAN_KEYS);
        command
    }

    fn scanned(&self, answer: Answer) -> Result<(String, Vec<Vec<u8>>)> {
        redis::from_redis_value(answer).map_err(|_| self.nonsense("SCAN"))
    }

    async fn unlink(&self, keys: Vec<Vec<u8>>) -> Result<u64> {
        if keys.is_empty() {
            return Ok(0);
        }
        let mut command = redis::cmd("UNLINK");
        command.arg(keys);
        let Answer::Int(count) = self.run(&command).await? else {
            return Err(self.nonsense("UNLINK"));
        };
        Ok(u64::try_from(count).unwrap_or_default())
    }
}
