//! Loads that the record may have and Redis not: noted before the record is written, taken away when Redis has the rows. A
//! note that stays tells of a load that broke off between the two.

use redis::Value as Answer;

use super::RedisStore;
use crate::error::Result;

impl RedisStore {
    /// The loads of a view that are noted.
    pub(in crate::stores) async fn owed(&self, view: &str) -> Result<Vec<String>> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(self.keys.owing(view));
        let answer: Answer = self.run(&command).await?;
        redis::from_redis_value(answer).map_err(|_| self.nonsense("SMEMBERS"))
    }

    /// Notes a load.
    pub(in crate::stores) async fn owe(&self, view: &str, load: &str) -> Result<()> {
        let mut command = redis::cmd("SADD");
        command.arg(self.keys.owing(view)).arg(load);
        self.run(&command).await.map(|_| ())
    }

    /// Takes the notes of some loads away.
    pub(in crate::stores) async fn repaid(&self, view: &str, loads: &[String]) -> Result<()> {
        if loads.is_empty() {
            return Ok(());
        }
        let mut command = redis::cmd("SREM");
        command.arg(self.keys.owing(view)).arg(loads);
        self.run(&command).await.map(|_| ())
    }
}
