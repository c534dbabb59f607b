//! Writing rows so that late data changes nothing, whoever writes at the same time and in whatever order.
//!
//! A script on the server sets a row at once where that takes no more than a look at the first bytes: there is none yet, or
//! both are whole rows of one schema and the new one is newer. Anything else is merged here and set only if the bytes are
//! still those that were merged. Where Redis alone cannot tell what holds, the record is asked: where an entity was deleted,
//! where two rows of the same time differ, and where the bytes cannot be read.

use std::sync::{Arc, LazyLock};

use redis::{Cmd, Script, Value as Answer};

use super::{
    RedisStore, codec,
    schema::{Projection, Schema},
};
use crate::{
    catalog::FeatureView,
    error::{Error, Result},
    features::{EntityKey, OnlineStore, StoredRow, WriteRow},
};

/// How often one row is tried while others write the same one.
const ATTEMPTS_MAX: u32 = 32;

/// Sets a row where that is simple; answers 1 where it did, 0 where the row is late, else what is there.
const PUT: &str = "\
local head = redis.call('GETRANGE', KEYS[1], 0, 25)
if head == '' then
  redis.call('SET', KEYS[1], ARGV[1])
  return 1
end
local new = ARGV[1]
local is_simple = #head == 26 and string.byte(new, 2) == 0 and string.sub(head, 1, 10) == string.sub(new, 1, 10)
if is_simple then
  for i = 11, 26 do
    local a, b = string.byte(new, i), string.byte(head, i)
    if a > b then
      redis.call('SET', KEYS[1], new)
      return 1
    end
    if a < b then
      return 0
    end
  end
end
local old = redis.call('GET', KEYS[1])
if old == new then
  return 0
end
return old";

/// Sets bytes where others are still there, for ever or for so many milliseconds; answers 1 where it did, else what is there.
const SWAP: &str = "\
local old = redis.call('GET', KEYS[1])
if old == ARGV[1] then
  if ARGV[3] then
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  else
    redis.call('SET', KEYS[1], ARGV[2])
  end
  return 1
end
return old";

/// A script and its digest, by which a server knows it.
struct Known {
    code: &'static str,
    digest: String,
}

impl Known {
    fn new(code: &'static str) -> Known {
        Known {
            code,
            digest: Script::new(code).get_hash().to_owned(),
        }
    }
}

static PUT_SCRIPT: LazyLock<Known> = LazyLock::new(|| Known::new(PUT));
static SWAP_SCRIPT: LazyLock<Known> = LazyLock::new(|| Known::new(SWAP));

/// What a script did.
enum Outcome {
    /// It set the bytes.
    Set,
    /// There is nothing to do.
    Late,
    /// It did nothing: these bytes are there, or none.
    Found(Option<Vec<u8>>),
}

/// What is to be done with a row that is not simple.
enum Decision {
    Nothing,
    Set(Vec<u8>),
    AskRecord,
}

impl RedisStore {
    /// Writes one row that the record has.
    pub(super) async fn put_row(
        &self,
        view: &FeatureView,
        schema: &Arc<Schema>,
        write: &WriteRow,
        record: &dyn OnlineStore,
    ) -> Result<()> {
        let key = self.keys.row(&view.name, &write.key);
        let whole = codec::encode(schema, &write.row);
        let mut found = match self.put_if_simple(&key, &whole).await? {
            Outcome::Set | Outcome::Late => return Ok(()),
            Outcome::Found(found) => found,
        };
        for _ in 0..ATTEMPTS_MAX {
            let outcome = match &found {
                None => self.put_if_simple(&key, &whole).await?,
                Some(bytes) => match self.decide(schema, &write.row, bytes).await? {
                    Decision::Nothing => return Ok(()),
                    Decision::Set(merged) => self.swap(&key, bytes, &merged).await?,
                    Decision::AskRecord => {
                        self.settle(view, schema, &write.key, bytes, record).await?
                    }
                },
            };
            match outcome {
                Outcome::Set | Outcome::Late => return Ok(()),
                Outcome::Found(now) => found = now,
            }
        }
        Err(Error::unavailable(format!(
            "a row of the feature view \"{}\" is being written by too many at once in Redis at {}",
            view.name,
            self.link.address()
        )))
    }

    /// Takes an entity out of a view, after the record did.
    pub(super) async fn forget_row(
        &self,
        view: &FeatureView,
        key: &EntityKey,
        record: &dyn OnlineStore,
    ) -> Result<()> {
        let schema = self.told_schema(view).await?;
        let name = self.keys.row(&view.name, key);
        let mark = codec::deleted();
        let mut set = redis::cmd("SET");
        set.arg(&name).arg(&mark).arg("PX").arg(self.deleted_ms());
        self.run(&set).await?;
        // A write that the record took after the deletion may have come before the mark.
        let settled = self.settle(view, &schema, key, &mark, record).await?;
        match settled {
            // Whoever set something else has seen the mark and asked the record.
            Outcome::Set | Outcome::Late | Outcome::Found(_) => Ok(()),
        }
    }

    /// What to do with a row where these bytes are.
    async fn decide(
        &self,
        schema: &Arc<Schema>,
        row: &StoredRow,
        bytes: &[u8],
    ) -> Result<Decision> {
        let Some(id) = codec::schema_id(bytes) else {
            return Ok(Decision::AskRecord);
        };
        let Some(stored_schema) = self.schema(schema, id).await? else {
            return Ok(Decision::AskRecord);
        };
        if !stored_schema.has_keys_of(schema) {
            // A row of a view that was dropped or made anew since.
            return Ok(Decision::Set(codec::encode(schema, row)));
        }
        let Some(stored) = codec::decode(&stored_schema, bytes) else {
            return Ok(Decision::AskRecord);
        };
        // What another process knows more of than this one must not be lost.
        let target: &Schema = match stored_schema.is_later_than(schema) {
            true => &stored_schema,
            false => schema,
        };
        let mut merged = Projection::new(&stored_schema, target).apply(stored);
        let row = Projection::new(schema, target).apply(row.clone());
        if disagree(&merged, &row) {
            return Ok(Decision::AskRecord);
        }
        merged.merge(&row);
        let merged = codec::encode(target, &merged);
        Ok(if merged == bytes {
            Decision::Nothing
        } else {
            Decision::Set(merged)
        })
    }

    /// Replaces bytes by what the record has, which is never older: the record is written first.
    async fn settle(
        &self,
        view: &FeatureView,
        schema: &Arc<Schema>,
        key: &EntityKey,
        bytes: &[u8],
        record: &dyn OnlineStore,
    ) -> Result<Outcome> {
        let mut rows = record.read(view, std::slice::from_ref(key)).await?;
        let name = self.keys.row(&view.name, key);
        match rows.pop().flatten() {
            Some(row) => self.swap(&name, bytes, &codec::encode(schema, &row)).await,
            None if codec::is_deleted(bytes) => Ok(Outcome::Late),
            None => {
                let mut command = self.script(&SWAP_SCRIPT, &name);
                command.arg(bytes).arg(codec::deleted());
                command.arg(self.deleted_ms());
                self.outcome(&SWAP_SCRIPT, command).await
            }
        }
    }

    async fn put_if_simple(&self, key: &str, bytes: &[u8]) -> Result<Outcome> {
        let mut command = self.script(&PUT_SCRIPT, key);
        command.arg(bytes);
        self.outcome(&PUT_SCRIPT, command).await
    }

    async fn swap(&self, key: &str, expected: &[u8], bytes: &[u8]) -> Result<Outcome> {
        let mut command = self.script(&SWAP_SCRIPT, key);
        command.arg(expected).arg(bytes);
        self.outcome(&SWAP_SCRIPT, command).await
    }

    fn script(&self, script: &Known, key: &str) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.digest).arg(1).arg(key);
        command
    }

    /// Runs a script by its digest; a server that does not know it yet gets its text.
    async fn outcome(&self, script: &Known, command: Cmd) -> Result<Outcome> {
        let mut answer = self.link.run(&command).await;
        if matches!(&answer, Err(fault) if fault.is_of_script()) {
            answer = self.link.run(&with_text(script, &command)).await;
        }
        let answer = answer.map_err(|fault| fault.at(self.link.address()))?;
        let Answer::Int(number) = answer else {
            let found = redis::from_redis_value::<Option<Vec<u8>>>(answer);
            return found
                .map(Outcome::Found)
                .map_err(|_| self.nonsense("a script"));
        };
        Ok(match number {
            1 => Outcome::Set,
            _ => Outcome::Late,
        })
    }
}

/// The same command with the script's text in place of its digest.
fn with_text(script: &Known, command: &Cmd) -> Cmd {
    let mut whole = redis::cmd("EVAL");
    whole.arg(script.code);
    for argument in command.args_iter().skip(2) {
        if let redis::Arg::Simple(bytes) = argument {
            whole.arg(bytes);
        }
    }
    whole
}

/// Whether a feature has two values of one time: only the record knows which of them was first.
fn disagree(a: &StoredRow, b: &StoredRow) -> bool {
    let mut pairs = a.values.iter().zip(&b.values).enumerate();
    pairs.any(|(feature, (one, other))| {
        let time = a.feature_time(feature);
        time.is_some() && time == b.feature_time(feature) && !one.is_same(other)
    })
}
