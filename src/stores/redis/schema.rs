//! What the bytes of a row mean: the features of the view that it was written for, each with the generation that brought
//! it.
//!
//! A row names its schema by a digest, and the schema itself stands in Redis once. So a row outlives a change of the view:
//! a feature counts as the same one where name, type and generation are; any other was never written in that row.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    catalog::{FeatureView, Field, PerView, ValueType},
    error::{Error, Result},
    features::{StoredRow, Value},
};

/// Schemas that a process remembers; far more than a catalog goes through.
const SCHEMAS_KNOWN_MAX: usize = 10_000;

/// One feature of a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Column {
    /// Its name.
    pub(super) name: String,
    /// Its type.
    pub(super) value_type: ValueType,
    /// The view's generation that brought it.
    generation: u32,
}

/// The part that is told in Redis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    entity: String,
    join_keys: Vec<(String, ValueType)>,
    generation: u32,
    columns: Vec<Column>,
}

/// A schema with its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schema {
    /// The digest that rows carry.
    pub(super) id: [u8; 8],
    /// As it is told in Redis.
    pub(super) text: String,
    content: Content,
}

impl Schema {
    /// The schema of a view.
    ///
    /// # Errors
    /// `Internal`, for names that JSON cannot hold.
    pub(super) fn of(view: &FeatureView) -> Result<Schema> {
        let column = |field: &Field| Column {
            name: field.name.clone(),
            value_type: field.value_type,
            generation: view.generation_of(&field.name),
        };
        let join_keys = view.join_keys.iter();
        let content = Content {
            entity: view.entity.clone(),
            join_keys: join_keys
                .map(|field| (field.name.clone(), field.value_type))
                .collect(),
            generation: view.generation,
            columns: view.features.iter().map(column).collect(),
        };
        let text = serde_json::to_string(&content).map_err(|fault| {
            Error::internal("a schema that JSON cannot hold").with_source(fault)
        })?;
        Ok(Schema {
            id: digest(&text),
            text,
            content,
        })
    }

    /// Reads a schema; none where the text is not the one that the digest is of.
    pub(super) fn parse(id: [u8; 8], text: &[u8]) -> Option<Schema> {
        let text = std::str::from_utf8(text).ok()?;
        let content = serde_json::from_str(text).ok()?;
        (digest(text) == id).then(|| Schema {
            id,
            text: text.to_owned(),
            content,
        })
    }

    /// The features, in the order of a row.
    pub(super) fn columns(&self) -> &[Column] {
        &self.content.columns
    }

    /// Whether rows of both are rows of the same entities.
    pub(super) fn has_keys_of(&self, other: &Schema) -> bool {
        self.content.entity == other.content.entity
            && self.content.join_keys == other.content.join_keys
    }

    /// Whether this is a later state of the view than the other.
    pub(super) fn is_later_than(&self, other: &Schema) -> bool {
        self.content.generation > other.content.generation
    }
}

fn digest(text: &str) -> [u8; 8] {
    let whole: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let mut id = [0; 8];
    for (byte, from) in id.iter_mut().zip(whole) {
        *byte = from;
    }
    id
}

/// Where the features of one schema stand in another.
pub(super) struct Projection {
    /// None where both have the same ones in the same order.
    positions: Option<Vec<Option<usize>>>,
}

impl Projection {
    /// From rows of one schema to rows of another.
    pub(super) fn new(from: &Schema, to: &Schema) -> Projection {
        if from.id == to.id || from.columns() == to.columns() {
            return Projection { positions: None };
        }
        // By name: a view may have a thousand features, and a row is waiting.
        let columns = from.columns().iter().enumerate();
        let by_name: HashMap<&str, (usize, &Column)> = columns
            .map(|(at, column)| (column.name.as_str(), (at, column)))
            .collect();
        let position = |column: &Column| {
            let (at, other) = by_name.get(column.name.as_str())?;
            (*other == column).then_some(*at)
        };
        Projection {
            positions: Some(to.columns().iter().map(position).collect()),
        }
    }

    /// The row as the other schema has it.
    pub(super) fn apply(&self, row: StoredRow) -> StoredRow {
        let Some(positions) = &self.positions else {
            return row;
        };
        let times = positions.iter();
        let times = times.map(|at| at.and_then(|at| row.feature_time(at)));
        let feature_times = Some(times.collect());
        let value = |at: &Option<usize>| at.and_then(|at| row.values.get(at)).cloned();
        let values = positions.iter();
        let mut projected = StoredRow {
            event_timestamp: row.event_timestamp,
            created_at: row.created_at,
            values: values.map(|at| value(at).unwrap_or(Value::Null)).collect(),
            feature_times,
        };
        projected.simplify();
        projected
    }
}

/// The schemas that this process has met.
#[derive(Default)]
pub(super) struct Schemas {
    of_views: PerView<Arc<Schema>>,
    by_id: RwLock<HashMap<[u8; 8], Arc<Schema>>>,
}

impl Schemas {
    /// The schema of a view; made again where the view has changed.
    pub(super) fn of(&self, view: &FeatureView) -> Result<Arc<Schema>> {
        if let Some(known) = self.of_views.get(view) {
            return Ok(known);
        }
        let fresh = Arc::new(Schema::of(view)?);
        self.of_views.set(view, Arc::clone(&fresh));
        Ok(fresh)
    }

    /// A schema that is known to stand in Redis.
    pub(super) fn told(&self, id: [u8; 8]) -> Option<Arc<Schema>> {
        let known = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).cloned()
    }

    /// Remembers that a schema stands in Redis.
    pub(super) fn note_told(&self, schema: Arc<Schema>) {
        let mut known = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SCHEMAS_KNOWN_MAX {
            known.clear();
        }
        known.insert(schema.id, schema);
    }

    /// Forgets what stands in Redis: it may have lost everything.
    pub(super) fn forget_told(&self) {
        let mut known = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        known.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::wildcard_enum_match_arm
    )]
    use super::*;
    use crate::{
        catalog::{Catalog, Definitions, Plan},
        features::{RowTime, Timestamp},
    };

    fn defined(features: &str) -> Definitions {
        let text = format!(
            r#"
            project = "demo"
            [[entities]]
            name = "loan"
            join_keys = [{{ name = "loan_id", type = "string" }}]
            [[feature_views]]
            name = "applicant"
            entity = "loan"
            features = [{features}]
            "#
        );
        Definitions::parse(&text).unwrap()
    }

    /// The view after each of some definitions was applied.
    fn grown(steps: &[&str]) -> Vec<FeatureView> {
        let mut catalog = Catalog::default();
        let mut views = Vec::new();
        for step in steps {
            let plan = Plan::new(&catalog, &defined(step)).unwrap();
            for entity in &plan.entities {
                catalog.entities.insert(entity.name.clone(), entity.clone());
            }
            for change in &plan.views {
                let view = change.view.clone();
                views.push(FeatureView::clone(&view));
                catalog.views.insert(view.name.clone(), view);
            }
        }
        views
    }

    const A: &str = r#"{ name = "a", type = "int64" }"#;
    const B: &str = r#"{ name = "b", type = "double" }"#;

    #[test]
    fn a_feature_that_came_back_is_another_one() {
        let both = format!("{A}, {B}");
        let views = grown(&[&both, A, &both]);
        let schemas: Vec<Schema> = views.iter().map(|view| Schema::of(view).unwrap()).collect();
        assert_ne!(schemas[0].id, schemas[2].id);
        let time = RowTime {
            event_timestamp: Timestamp::EPOCH,
            created_at: Timestamp::EPOCH,
        };
        let row = StoredRow::whole(time, vec![Value::Int64(1), Value::Double(2.0)]);
        let now = Projection::new(&schemas[0], &schemas[2]).apply(row.clone());
        assert_eq!(now.values, [Value::Int64(1), Value::Null]);
        assert_eq!(now.feature_times, Some(vec![Some(time), None]));
        let smaller = Projection::new(&schemas[0], &schemas[1]).apply(row);
        assert_eq!(smaller, StoredRow::whole(time, vec![Value::Int64(1)]));
        assert!(schemas[2].is_later_than(&schemas[1]));
    }

    #[test]
    fn a_schema_reads_back_under_its_digest_alone() {
        let schema = Schema::of(&grown(&[A])[0]).unwrap();
        let text = schema.text.as_bytes();
        assert_eq!(Schema::parse(schema.id, text), Some(schema.clone()));
        assert_eq!(Schema::parse([0; 8], text), None);
        assert_eq!(Schema::parse(schema.id, b"{}"), None);
    }
}
