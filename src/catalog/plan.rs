//! What has to change for the catalog to be as a definitions file says.

use std::sync::Arc;

use super::{Catalog, Definitions, Entity, FeatureView, Field};
use crate::error::{Error, Result};

/// What happens to an entity or a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Create,
    /// It is there and becomes different.
    Update,
}

/// One change, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What happens.
    pub action: Action,
    /// `entity` or `feature_view`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What changes, a line each.
    pub details: Vec<String>,
}

/// One change of a view, for a store.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewChange {
    /// The view as it is to be.
    pub view: Arc<FeatureView>,
    /// Whether its table has to be made; otherwise the added features become columns.
    pub is_new: bool,
    /// Features that the table has no column for yet; empty for a new table.
    pub added: Vec<Field>,
}

/// What has to change, relative to one revision of the catalog. Never loses data.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The revision that the plan was made for.
    pub revision: i64,
    /// Entities to write.
    pub entities: Vec<Arc<Entity>>,
    /// Views to write.
    pub views: Vec<ViewChange>,
    /// The same for people, in the file's order.
    pub changes: Vec<Change>,
}

impl Plan {
    /// Compares a catalog with definitions.
    ///
    /// # Errors
    /// `FailedPrecondition` where a change would lose data or take over something of another project; every such
    /// change is named.
    pub fn new(catalog: &Catalog, definitions: &Definitions) -> Result<Plan> {
        let mut plan = Plan {
            revision: catalog.revision,
            entities: Vec::new(),
            views: Vec::new(),
            changes: Vec::new(),
        };
        let mut refusals = Vec::new();
        for entity in &definitions.entities {
            plan.add_entity(catalog, entity, &mut refusals);
        }
        for view in &definitions.views {
            plan.add_view(catalog, view, &mut refusals);
        }
        if refusals.is_empty() {
            Ok(plan)
        } else {
            Err(Error::failed_precondition(refusals.join("; ")))
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    fn add_entity(&mut self, catalog: &Catalog, entity: &Arc<Entity>, refusals: &mut Vec<String>) {
        let change = |action, details| Change {
            action,
            kind: "entity",
            name: entity.name.clone(),
            details,
        };
        match catalog.entities.get(&entity.name) {
            None => self.changes.push(change(
                Action::Create,
                entity.join_keys.iter().map(describe).collect(),
            )),
            Some(old) if old == entity => return,
            Some(old) if !same_columns(&old.join_keys, &entity.join_keys) => {
                refusals.push(format!(
                    "entity {}: its join keys cannot change while views hold rows by them; define a new entity",
                    entity.name
                ));
                return;
            }
            Some(_) => self
                .changes
                .push(change(Action::Update, vec!["description".to_owned()])),
        }
        self.entities.push(Arc::clone(entity));
    }

    fn add_view(&mut self, catalog: &Catalog, view: &Arc<FeatureView>, refusals: &mut Vec<String>) {
        let Some(old) = catalog.views.get(&view.name) else {
            self.changes.push(Change {
                action: Action::Create,
                kind: "feature_view",
                name: view.name.clone(),
                details: view.features.iter().map(describe).collect(),
            });
            self.views.push(ViewChange {
                view: Arc::clone(view),
                is_new: true,
                added: Vec::new(),
            });
            return;
        };
        if old == view {
            return;
        }
        let faults = losses(old, view);
        if !faults.is_empty() {
            refusals.extend(faults);
            return;
        }
        let added: Vec<Field> = view
            .features
            .iter()
            .filter(|field| old.feature_index(&field.name).is_none())
            .cloned()
            .collect();
        self.changes.push(Change {
            action: Action::Update,
            kind: "feature_view",
            name: view.name.clone(),
            details: differences(old, view, &added),
        });
        self.views.push(ViewChange {
            view: Arc::clone(view),
            is_new: false,
            added,
        });
    }
}

fn describe(field: &Field) -> String {
    format!("{} {}", field.name, field.value_type)
}

/// Whether two lists have the same names and types in the same order, whatever their descriptions say.
fn same_columns(old: &[Field], new: &[Field]) -> bool {
    old.len() == new.len()
        && old
            .iter()
            .zip(new)
            .all(|(a, b)| a.name == b.name && a.value_type == b.value_type)
}

/// What a change of a view would lose.
fn losses(old: &FeatureView, new: &FeatureView) -> Vec<String> {
    let name = &new.name;
    if old.project != new.project {
        return vec![format!(
            "feature view {name}: it belongs to the project {}; choose another name",
            old.project
        )];
    }
    let mut faults = Vec::new();
    if old.entity != new.entity || !same_columns(&old.join_keys, &new.join_keys) {
        faults.push(format!(
            "feature view {name}: its entity cannot change; define a new view"
        ));
    }
    for field in &old.features {
        match new.features.iter().find(|f| f.name == field.name) {
            None => faults.push(format!(
                "feature view {name}: taking out {} would lose its values",
                field.name
            )),
            Some(f) if f.value_type != field.value_type => faults.push(format!(
                "feature view {name}: {} cannot change from {} to {}; define a new feature",
                field.name, field.value_type, f.value_type
            )),
            Some(_) => {}
        }
    }
    faults
}

/// What is different, a line each.
fn differences(old: &FeatureView, new: &FeatureView, added: &[Field]) -> Vec<String> {
    let mut lines: Vec<String> = added
        .iter()
        .map(|field| format!("add {}", describe(field)))
        .collect();
    if old.ttl != new.ttl {
        let shown = |ttl: Option<std::time::Duration>| {
            ttl.map_or("none".to_owned(), |ttl| format!("{ttl:?}"))
        };
        lines.push(format!("ttl {} to {}", shown(old.ttl), shown(new.ttl)));
    }
    if old.source != new.source {
        lines.push("source".to_owned());
    }
    if lines.is_empty() {
        lines.push("descriptions or order".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::error::ErrorKind;

    fn definitions(features: &str, ttl: &str) -> Definitions {
        Definitions::parse(&format!(
            r#"
            project = "demo"
            [[entities]]
            name = "loan"
            join_keys = [{{ name = "loan_id", type = "string" }}]
            [[feature_views]]
            name = "applicant"
            entity = "loan"
            ttl = "{ttl}"
            features = [{features}]
            "#
        ))
        .unwrap()
    }

    fn catalog_of(definitions: &Definitions) -> Catalog {
        Catalog {
            revision: 7,
            entities: definitions
                .entities
                .iter()
                .map(|entity| (entity.name.clone(), Arc::clone(entity)))
                .collect(),
            views: definitions
                .views
                .iter()
                .map(|view| (view.name.clone(), Arc::clone(view)))
                .collect(),
        }
    }

    const INC: &str = r#"{ name = "annual_inc", type = "double" }"#;
    const INC_INT: &str = r#"{ name = "annual_inc", type = "int64" }"#;
    const AGE: &str = r#"{ name = "age", type = "int32" }"#;

    #[test]
    fn the_same_definitions_change_nothing() {
        let same = definitions(INC, "1d");
        assert!(Plan::new(&catalog_of(&same), &same).unwrap().is_empty());
    }

    #[test]
    fn a_new_feature_and_another_ttl_are_an_update() {
        let catalog = catalog_of(&definitions(INC, "1d"));
        let plan = Plan::new(&catalog, &definitions(&format!("{AGE}, {INC}"), "2d")).unwrap();
        assert_eq!(plan.revision, 7);
        assert!(!plan.views[0].is_new);
        assert_eq!(plan.views[0].added[0].name, "age");
        assert_eq!(
            plan.changes[0].details,
            ["add age int32", "ttl 86400s to 172800s"]
        );
    }

    #[test]
    fn a_change_that_would_lose_data_is_refused() {
        let catalog = catalog_of(&definitions(&format!("{INC}, {AGE}"), "1d"));
        let error = Plan::new(&catalog, &definitions(INC_INT, "1d")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(
            error
                .message()
                .contains("annual_inc cannot change from double to int64")
        );
        assert!(error.message().contains("taking out age"));
    }
}
