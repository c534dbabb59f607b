//! What is released of a model: which version an alias means, who gets which share of the traffic, what is unloaded.
//!
//! What people change at run time is kept in the database and goes before what model.toml says; every change is an event,
//! with who, when and from where.

mod change;
mod check;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use self::{
    change::ReleaseChange,
    traffic::{Share, Traffic, WEIGHT_WHOLE, bucket_of},
};
pub(super) use self::{change::change_release, traffic::bucket_of_numbers};
use crate::{error::Result, features::Timestamp};

/// What was released of one model at run time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Release {
    /// Counts the changes.
    #[serde(skip)]
    pub revision: i64,
    /// Alias to version; none: taken away, whatever model.toml says.
    pub aliases: BTreeMap<String, Option<String>>,
    /// Who gets what share; none: as model.toml says.
    pub traffic: Option<Traffic>,
    /// Versions that are not loaded, though their folders are there.
    pub unloaded: BTreeSet<String>,
}

/// Releases by model.
pub type Releases = BTreeMap<String, Release>;

/// Who changed something, from where, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Author {
    /// As he calls himself.
    pub actor: String,
    /// The address that the call came from; empty for a command line.
    pub peer: String,
    /// For people.
    pub reason: String,
}

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// An alias means another version.
    Alias,
    /// The shares are others.
    Traffic,
    /// A version is loaded again.
    Load,
    /// A version is not loaded any more.
    Unload,
}

/// One change of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseEvent {
    /// The model.
    pub model: String,
    /// The release's revision after it.
    pub revision: i64,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub author: Author,
    /// What was changed.
    pub kind: EventKind,
    /// The alias or the version; empty for traffic.
    pub name: String,
    /// What it was before; none: nothing.
    pub before: Option<String>,
    /// What it is now; none: nothing.
    pub after: Option<String>,
}

/// Keeps releases and their events.
#[async_trait]
pub trait ReleaseStore: Send + Sync {
    /// Every release, by model.
    ///
    /// # Errors
    /// `Unavailable` where the database is away.
    async fn releases(&self) -> Result<Releases>;

    /// Counts the changes of all releases: the same number means the same releases.
    ///
    /// # Errors
    /// As `releases`.
    async fn releases_revision(&self) -> Result<i64>;

    /// Keeps a model's release and its event in one transaction, where the kept one is of the revision before; else
    /// answers false.
    ///
    /// # Errors
    /// As `releases`. Nothing is kept then.
    async fn put_release(&self, release: &Release, event: &ReleaseEvent) -> Result<bool>;

    /// A model's events, the newest first, up to `limit`.
    ///
    /// # Errors
    /// As `releases`.
    async fn release_events(&self, model: &str, limit: usize) -> Result<Vec<ReleaseEvent>>;
}

impl EventKind {
    /// The name that stores keep.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Alias => "alias",
            EventKind::Traffic => "traffic",
            EventKind::Load => "load",
            EventKind::Unload => "unload",
        }
    }

    /// The kind of a name.
    pub fn of_name(name: &str) -> Option<EventKind> {
        [
            EventKind::Alias,
            EventKind::Traffic,
            EventKind::Load,
            EventKind::Unload,
        ]
        .into_iter()
        .find(|kind| kind.name() == name)
    }
}
