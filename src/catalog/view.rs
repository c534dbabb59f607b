//! What a definition says: entities and feature views.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::ValueType;

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
#[serde(deny_unknown_fields)]
pub struct Source {
    /// A `.parquet` or `.csv` file, relative to the definitions file.
    pub path: String,
    /// The column with the time at which a row became true in the world.
    #[serde(default = "default_timestamp_field")]
    pub timestamp_field: String,
    /// The column with the time at which a row was made; none: the time of loading.
    #[serde(default)]
    pub created_timestamp_field: Option<String>,
}

fn default_timestamp_field() -> String {
    "event_timestamp".to_owned()
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
    /// The features, in the order of the table's columns.
    pub features: Vec<Field>,
    /// How old a row may be before its values are withheld; none: any age.
    pub ttl: Option<Duration>,
    /// Where the rows come from; none: from writes only.
    pub source: Option<Source>,
}

impl FeatureView {
    /// The position of a feature among the view's features.
    pub fn feature_index(&self, name: &str) -> Option<usize> {
        self.features.iter().position(|field| field.name == name)
    }
}

/// A feature's full name, `view:feature`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
}

impl fmt::Display for FeatureRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.view, self.feature)
    }
}
