//! What a definition says: entities, feature views and feature services.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ferrocast_freshness::is_outside;
use serde::{Deserialize, Serialize};

use super::{TtlCalendar, ValueType};
use crate::error::Error;

/// A named, typed column: a join key or a feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// The column's name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// What it holds, for people; with its unit.
    #[serde(default)]
    pub description: String,
}

/// Something that features are known of: a user, a loan, a ticker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entity {
    /// The name, unique on the server.
    pub name: String,
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
    /// The columns that name one; at least one.
    pub join_keys: Vec<Field>,
}

/// Where a view's rows come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SourceText", into = "SourceText")]
pub struct Source {
    /// The rows themselves.
    pub origin: Origin,
    /// The column with the time at which a row became true in the world.
    pub timestamp_field: String,
    /// The column with the time at which a row was made; none: the time of loading.
    pub created_timestamp_field: Option<String>,
}

/// What a source reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A `.parquet` or `.csv` file, or a folder of them, relative to the definitions file.
    Path(String),
    /// A SQL query, which the store's own database runs.
    Query(String),
}

impl Source {
    /// The path or the query, as the definitions file has it.
    pub fn text(&self) -> &str {
        match &self.origin {
            Origin::Path(text) | Origin::Query(text) => text,
        }
    }

    /// The path, where rows come from files.
    pub fn path(&self) -> Option<&str> {
        match &self.origin {
            Origin::Path(path) => Some(path),
            Origin::Query(_) => None,
        }
    }
}

/// A source as a definitions file writes it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    #[serde(default = "default_timestamp_field")]
    timestamp_field: String,
    #[serde(default)]
    created_timestamp_field: Option<String>,
}

impl TryFrom<SourceText> for Source {
    type Error = &'static str;

    fn try_from(text: SourceText) -> Result<Source, Self::Error> {
        let origin = match (text.path, text.query) {
            (Some(path), None) => Origin::Path(path),
            (None, Some(query)) => Origin::Query(query),
            (Some(_), Some(_)) => return Err("a source has a path or a query, not both"),
            (None, None) => return Err("a source has a path or a query"),
        };
        Ok(Source {
            origin,
            timestamp_field: text.timestamp_field,
            created_timestamp_field: text.created_timestamp_field,
        })
    }
}

impl From<Source> for SourceText {
    fn from(source: Source) -> SourceText {
        let (path, query) = match source.origin {
            Origin::Path(path) => (Some(path), None),
            Origin::Query(query) => (None, Some(query)),
        };
        SourceText {
            path,
            query,
            timestamp_field: source.timestamp_field,
            created_timestamp_field: source.created_timestamp_field,
        }
    }
}

fn default_timestamp_field() -> String {
    "event_timestamp".to_owned()
}

/// A table or SQL view of the store's database that somebody else fills; it is read and never written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExistingTable {
    /// The table's name, with its schema where it needs one: `crm.accounts`.
    pub name: String,
    /// The column with the time at which a row became true in the world. Of several rows of an entity the newest counts.
    #[serde(default = "default_timestamp_field")]
    pub timestamp_field: String,
    /// The column with the time at which a row was made, which breaks ties; none: ties are broken by nothing.
    #[serde(default)]
    pub created_timestamp_field: Option<String>,
    /// Join key or feature to the table's column, where that has another name.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
}

impl ExistingTable {
    /// The table's column of a join key or feature.
    pub fn column<'a>(&'a self, name: &'a str) -> &'a str {
        self.columns.get(name).map_or(name, String::as_str)
    }
}

/// A typed table of features of one entity.
///
/// Carries its entity's join keys, so that whoever has the view needs nothing else to read or write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureView {
    /// The name, unique on the server.
    pub name: String,
    /// The project of the definitions file that it comes from.
    pub project: String,
    /// What it holds, for people.
    pub description: String,
    /// The entity's name.
    pub entity: String,
    /// The columns that name an entity: the table's primary key.
    pub join_keys: Vec<Field>,
    /// The features, in the order of the definition.
    pub features: Vec<Field>,
    /// How old a row may be before its values are withheld; none: any age.
    pub ttl: Option<Duration>,
    /// The days that do not count towards the TTL; none: all count. Views that have none are stored as they ever were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_calendar: Option<TtlCalendar>,
    /// Where the rows come from; none: from writes only.
    pub source: Option<Source>,
    /// Whether every row that is written is kept, for training sets.
    #[serde(default)]
    pub history: bool,
    /// Somebody else's table in place of one of ours.
    #[serde(default)]
    pub table: Option<ExistingTable>,
    /// Counts the changes of the features since the view was made. A row is stored with the generation that it was
    /// written in.
    #[serde(default)]
    pub generation: u32,
    /// The features that were added since the view was made, each with the generation that brought it: an older row says
    /// nothing about them.
    #[serde(default)]
    pub added: BTreeMap<String, u32>,
    /// What tells this very view from any other, without a look at all that it is.
    #[serde(skip, default = "Identity::fresh")]
    pub(super) identity: Identity,
}

/// Of a view that came out of a store: a number that no other value has. A copy may be changed, so it has none; two that have
/// the same are one view, and two that have not may still be equal.
#[derive(Debug, Default)]
pub(super) struct Identity(Option<u64>);

impl Identity {
    fn fresh() -> Identity {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Identity(Some(LAST.fetch_add(1, Ordering::Relaxed)))
    }

    pub(super) fn number(&self) -> Option<u64> {
        self.0
    }
}

impl Clone for Identity {
    fn clone(&self) -> Identity {
        Identity(None)
    }
}

impl PartialEq for Identity {
    fn eq(&self, _: &Identity) -> bool {
        true
    }
}

impl Eq for Identity {}

impl FeatureView {
    /// The same view for work that outlives its caller: as it cannot be changed, it is still known by its identity.
    pub(crate) fn held(&self) -> Arc<FeatureView> {
        let mut held = self.clone();
        held.identity = Identity(self.identity.number());
        Arc::new(held)
    }

    /// The TTL in microseconds.
    pub fn ttl_micros(&self) -> Option<i64> {
        let ttl = self.ttl?;
        Some(i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX))
    }

    /// Whether at `now` a value of the time `event`, both in microseconds since 1970, is older than the TTL allows; exactly as
    /// old is not.
    pub fn is_outside_ttl(&self, event_micros: i64, now_micros: i64) -> bool {
        let off = self.ttl_calendar.as_ref().map(TtlCalendar::off);
        self.ttl_micros()
            .is_some_and(|ttl| is_outside(ttl, off, event_micros, now_micros))
    }

    /// The position of a feature among the view's features.
    pub fn feature_index(&self, name: &str) -> Option<usize> {
        self.features.iter().position(|field| field.name == name)
    }

    /// The generation that brought a feature; rows of an older one say nothing about it.
    pub fn generation_of(&self, feature: &str) -> u32 {
        self.added.get(feature).copied().unwrap_or_default()
    }

    /// Refuses what a view on somebody else's table cannot do.
    ///
    /// # Errors
    /// `FailedPrecondition`, naming the table.
    pub fn check_writable(&self) -> Result<(), Error> {
        let Some(table) = &self.table else {
            return Ok(());
        };
        Err(Error::failed_precondition(format!(
            "the feature view \"{}\" is read-only: it reads the table {}, which somebody else fills",
            self.name, table.name
        )))
    }
}

/// A named, versioned list of features, as a model or an application asks for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureService {
    /// The name, unique on the server together with the version.
    pub name: String,
    /// Counted from 1; another list of features is another version.
    pub version: u32,
    /// The project of the definitions file that it comes from.
    pub project: String,
    /// What it is for, for people.
    #[serde(default)]
    pub description: String,
    /// The features, in the order in which they are answered.
    pub features: Vec<FeatureRef>,
}

/// A feature's full name, `view:feature`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FeatureRef {
    /// The view's name.
    pub view: String,
    /// The feature's name in the view.
    pub feature: String,
}

impl FeatureRef {
    /// Reads `view:feature`; none where it has not that form.
    pub fn parse(full_name: &str) -> Option<FeatureRef> {
        let (view, feature) = full_name.split_once(':')?;
        if view.is_empty() || feature.is_empty() || feature.contains(':') {
            return None;
        }
        Some(FeatureRef {
            view: view.to_owned(),
            feature: feature.to_owned(),
        })
    }

    /// `view:feature`.
    pub fn full_name(&self) -> String {
        [&self.view, ":", &self.feature].concat()
    }
}

impl fmt::Display for FeatureRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.view, self.feature)
    }
}

impl TryFrom<String> for FeatureRef {
    type Error = String;

    fn try_from(full_name: String) -> Result<FeatureRef, String> {
        FeatureRef::parse(&full_name)
            .ok_or_else(|| format!("\"{full_name}\" is not of the form view:feature"))
    }
}

impl From<FeatureRef> for String {
    fn from(reference: FeatureRef) -> String {
        reference.to_string()
    }
}
