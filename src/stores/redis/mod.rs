//! Redis or a Redis Cluster, from which features are read. It keeps no record: all that is in it can be lost and is filled
//! in again from the database, which `stores::tiered` puts behind it.
//!
//! One key a view and entity (`key`), one packed row a key (`codec`), whose meaning is told once (`schema`). `guard` writes,
//! `markers` notices what was lost, `owing` what a load did not get done, `link` has the connections, `owners` knows a
//! cluster's nodes.

mod codec;
mod fault;
mod guard;
mod key;
mod link;
mod markers;
mod owing;
mod owners;
mod schema;
mod sweep;

use std::{
    collections::{HashMap, hash_map::Entry},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use redis::{Cmd, Value as Answer};

use self::{
    key::Keys,
    link::Link,
    markers::Fill,
    schema::{Projection, Schema, Schemas},
};
use crate::{
    catalog::FeatureView,
    config::Secret,
    error::{Error, Result},
    features::{EntityKey, OnlineStore, StoredRow, WriteRow},
};

/// Parts of one read that are on their way at once.
const READS_AT_ONCE: usize = 4;

/// Which Redis, and how it is used.
#[derive(Debug, Clone)]
pub struct OnlineOptions {
    /// `redis://…` or `rediss://…`: one of a server, or some nodes of a cluster.
    pub urls: Vec<Secret>,
    /// Whether a single URL is a node of a cluster.
    pub cluster: bool,
    /// Authorities that sign the servers' certificates, a PEM file; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Connections to a server, or to each node of a cluster; each takes many requests at once.
    pub connections_max: usize,
    /// Keys of one command, and commands of one request that are on their way at once.
    pub pipeline_max: usize,
    /// How long making a connection may take, TLS and login included.
    pub connect_timeout: Duration,
    /// How long a command may take, a connection made for it and retries included.
    pub command_timeout: Duration,
    /// How often a cluster is asked whether it has lost anything.
    pub probe_interval: Duration,
    /// What all keys begin with.
    pub key_prefix: String,
    /// How long a deletion is remembered: longer than any load or refill takes.
    pub deleted_for: Duration,
}

impl OnlineOptions {
    /// The bounds that the settings have where nothing is set.
    pub fn new(urls: Vec<Secret>) -> Self {
        OnlineOptions {
            urls,
            cluster: false,
            ca_file: None,
            connections_max: 4,
            pipeline_max: 256,
            connect_timeout: Duration::from_secs(2),
            command_timeout: Duration::from_secs(2),
            probe_interval: Duration::from_secs(1),
            key_prefix: "ferrocast".to_owned(),
            deleted_for: Duration::from_secs(2 * 3_600),
        }
    }

    fn is_cluster(&self) -> bool {
        self.cluster || self.urls.len() > 1
    }
}

/// Checks what the URLs say, without connecting.
///
/// # Errors
/// `InvalidArgument` for one that makes no sense; the URL itself is not repeated.
pub fn check_online(options: &OnlineOptions) -> Result<()> {
    link::nodes(options).map(|_| ())
}

/// What Redis holds under a key.
#[derive(Debug)]
pub(super) enum Found {
    /// A row.
    Row(StoredRow),
    /// Nothing, or the mark of a deletion.
    Nothing,
    /// Bytes that it cannot read.
    Unreadable,
}

/// The answer to a read.
#[derive(Debug)]
pub(super) struct Reading {
    /// Whether Redis says that it holds all rows.
    pub(super) is_filled: bool,
    /// One a key, in their order.
    pub(super) found: Vec<Found>,
}

/// The schemas of one read's rows that are not the view's present one, by their digests.
type Foreign = HashMap<[u8; 8], (Arc<Schema>, Projection)>;

/// Rows in Redis.
pub(super) struct RedisStore {
    link: Link,
    keys: Keys,
    schemas: Schemas,
    fill: Fill,
    options: OnlineOptions,
}

impl RedisStore {
    /// Connects, so that a wrong URL is told at once, and warns of a server that may throw rows away.
    ///
    /// # Errors
    /// `InvalidArgument` for a URL that makes no sense, `FailedPrecondition` for a refused login, `Unavailable` where nobody
    /// answers. Host and port are named, the password never.
    pub(super) async fn open(options: &OnlineOptions) -> Result<Arc<RedisStore>> {
        let store = Arc::new(RedisStore {
            link: Link::new(options)?,
            keys: Keys::new(&options.key_prefix),
            schemas: Schemas::default(),
            fill: Fill::default(),
            options: options.clone(),
        });
        store.ping().await?;
        store.warn_of_eviction().await;
        if store.link.is_cluster() {
            // Where no node tells, the first read asks again.
            let _ = store.is_filled().await;
            markers::watch(&store, options.probe_interval);
        }
        Ok(store)
    }

    /// The servers' hosts and ports, for messages.
    pub(super) fn address(&self) -> &str {
        self.link.address()
    }

    /// How long an answer about what Redis has lost may be taken for true.
    pub(super) fn probe_interval(&self) -> Duration {
        self.options.probe_interval
    }

    /// Asks whether Redis answers.
    pub(super) async fn ping(&self) -> Result<()> {
        // A command with a key goes to a node that serves it, where PING would be content with any.
        let markers = self.keys.filled();
        let mut command = redis::cmd("EXISTS");
        command.arg(markers.first());
        self.run(&command).await.map(|_| ())
    }

    /// Reads the rows of entities, in the order of the keys.
    pub(super) async fn read(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<Reading> {
        let schema = self.schemas.of(view)?;
        let parts: Vec<_> = keys
            .chunks(self.options.pipeline_max.max(1))
            .map(|part| self.read_part(&view.name, part))
            .collect();
        let answers: Vec<(bool, Vec<Answer>)> = stream::iter(parts)
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await?;
        let mut reading = Reading {
            is_filled: true,
            found: Vec::with_capacity(keys.len()),
        };
        let mut foreign = Foreign::new();
        for (is_part_filled, answers) in answers {
            reading.is_filled &= is_part_filled;
            for answer in answers {
                let found = self.understand(&schema, answer, &mut foreign).await?;
                reading.found.push(found);
            }
        }
        if !self.link.is_cluster() && !keys.is_empty() {
            self.note_filled(reading.is_filled);
        }
        Ok(reading)
    }

    /// One message to each node for some keys. A single server tells in the same breath whether it has lost its rows.
    async fn read_part(&self, view: &str, keys: &[EntityKey]) -> Result<(bool, Vec<Answer>)> {
        let names: Vec<String> = keys.iter().map(|key| self.keys.row(view, key)).collect();
        if self.link.is_cluster() {
            let answers = self.link.get_each(&names).await;
            let answers = answers.map_err(|fault| fault.at(self.link.address()))?;
            return self.checked(self.was_filled(), answers, keys.len());
        }
        let mut command = redis::cmd("MGET");
        command.arg(self.fill.first_marker(&self.keys)).arg(names);
        let Answer::Array(mut answers) = self.run(&command).await? else {
            return Err(self.nonsense("MGET"));
        };
        let marker = match answers.is_empty() {
            true => Answer::Nil,
            false => answers.remove(0),
        };
        self.checked(marker != Answer::Nil, answers, keys.len())
    }

    fn checked(
        &self,
        is_filled: bool,
        answers: Vec<Answer>,
        count: usize,
    ) -> Result<(bool, Vec<Answer>)> {
        match answers.len() == count {
            true => Ok((is_filled, answers)),
            false => Err(self.nonsense("MGET")),
        }
    }

    /// A row out of its bytes.
    async fn understand(
        &self,
        schema: &Arc<Schema>,
        answer: Answer,
        foreign: &mut Foreign,
    ) -> Result<Found> {
        let Answer::BulkString(bytes) = answer else {
            return Ok(Found::Nothing);
        };
        if codec::is_deleted(&bytes) {
            return Ok(Found::Nothing);
        }
        let Some(id) = codec::schema_id(&bytes) else {
            return Ok(Found::Unreadable);
        };
        if id == schema.id {
            return Ok(codec::decode(schema, &bytes).map_or(Found::Unreadable, Found::Row));
        }
        let (other, projection) = match foreign.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let Some(other) = self.schema(schema, id).await? else {
                    return Ok(Found::Unreadable);
                };
                let projection = Projection::new(&other, schema);
                place.insert((other, projection))
            }
        };
        if !other.has_keys_of(schema) {
            return Ok(Found::Nothing);
        }
        let row = codec::decode(other, &bytes);
        Ok(row.map_or(Found::Unreadable, |row| Found::Row(projection.apply(row))))
    }

    /// Writes rows that the record has. Where Redis alone cannot tell what holds, `record` is asked.
    pub(super) async fn put(
        &self,
        view: &FeatureView,
        rows: &[WriteRow],
        record: &dyn OnlineStore,
    ) -> Result<()> {
        let schema = self.told_schema(view).await?;
        stream::iter(rows)
            .map(Ok)
            .try_for_each_concurrent(self.options.pipeline_max.max(1), |write| {
                self.put_row(view, &schema, write, record)
            })
            .await
    }

    /// Takes an entity out of views, after the record did.
    pub(super) async fn forget(
        &self,
        views: &[Arc<FeatureView>],
        key: &EntityKey,
        record: &dyn OnlineStore,
    ) -> Result<()> {
        for view in views {
            self.forget_row(view, key, record).await?;
        }
        Ok(())
    }

    /// The schema of a view, told in Redis before a row carries its digest.
    async fn told_schema(&self, view: &FeatureView) -> Result<Arc<Schema>> {
        let schema = self.schemas.of(view)?;
        if self.schemas.told(schema.id).is_none() {
            let mut command = redis::cmd("SET");
            command.arg(self.keys.schema(schema.id)).arg(&schema.text);
            self.run(&command).await?;
            self.schemas.note_told(Arc::clone(&schema));
        }
        Ok(schema)
    }

    /// The schema of a digest; none where Redis does not know it any more.
    async fn schema(&self, own: &Arc<Schema>, id: [u8; 8]) -> Result<Option<Arc<Schema>>> {
        if id == own.id {
            return Ok(Some(Arc::clone(own)));
        }
        if let Some(known) = self.schemas.told(id) {
            return Ok(Some(known));
        }
        let mut command = redis::cmd("GET");
        command.arg(self.keys.schema(id));
        let Answer::BulkString(text) = self.run(&command).await? else {
            return Ok(None);
        };
        let read = Schema::parse(id, &text).map(Arc::new);
        if let Some(schema) = &read {
            self.schemas.note_told(Arc::clone(schema));
        }
        Ok(read)
    }

    fn deleted_ms(&self) -> u64 {
        u64::try_from(self.options.deleted_for.as_millis()).unwrap_or(u64::MAX)
    }

    async fn run(&self, command: &Cmd) -> Result<Answer> {
        let answer = self.link.run(command).await;
        answer.map_err(|fault| fault.at(self.link.address()))
    }

    fn nonsense(&self, what: &str) -> Error {
        Error::internal(format!(
            "Redis at {} answered {what} with something else than is documented",
            self.link.address()
        ))
    }
}
