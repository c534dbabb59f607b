//! What has to change for the catalog to be as a definitions file says.

use std::sync::Arc;

use super::{
    Catalog, Definitions, Entity, FeatureService, FeatureView, ViewChange,
    view_change::{self, Told, describe, same_columns},
};
use crate::error::{Error, Result};

/// What happens to an entity, a view or a feature service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Create,
    /// It is there and becomes different.
    Update,
    /// It is there and goes.
    Drop,
}

/// One change, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What happens.
    pub action: Action,
    /// `entity`, `feature_view` or `feature_service`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What changes, a line each.
    pub details: Vec<String>,
    /// What it would lose, a sentence each; mostly nothing.
    pub losses: Vec<String>,
}

/// What has to change, relative to one revision of the catalog.
///
/// A definitions file is the whole truth about its project: what belongs to the project and is not in the file goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The revision that the plan was made for.
    pub revision: i64,
    /// Entities to write.
    pub entities: Vec<Arc<Entity>>,
    /// Entities to take out, by name.
    pub dropped_entities: Vec<String>,
    /// Views to write or take out; those that go come first.
    pub views: Vec<ViewChange>,
    /// Feature services to write.
    pub services: Vec<Arc<FeatureService>>,
    /// Feature services to take out.
    pub dropped_services: Vec<Arc<FeatureService>>,
    /// The same for people: what goes, then the rest in the file's order.
    pub changes: Vec<Change>,
}

impl Plan {
    /// Compares a catalog with definitions.
    ///
    /// # Errors
    /// `FailedPrecondition` where something of another project would be taken over, or a feature service would change
    /// under its callers; every such change is named.
    pub fn new(catalog: &Catalog, definitions: &Definitions) -> Result<Plan> {
        let mut plan = Plan {
            revision: catalog.revision,
            entities: Vec::new(),
            dropped_entities: Vec::new(),
            views: Vec::new(),
            services: Vec::new(),
            dropped_services: Vec::new(),
            changes: Vec::new(),
        };
        let mut refusals = Vec::new();
        plan.drop_services(catalog, definitions);
        plan.drop_views(catalog, definitions);
        for entity in &definitions.entities {
            plan.add_entity(catalog, definitions, entity, &mut refusals);
        }
        for view in &definitions.views {
            plan.add_view(catalog, view, &mut refusals);
        }
        for service in &definitions.services {
            plan.add_service(catalog, service, &mut refusals);
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

    /// The catalog that the plan makes of the one that it was made for.
    #[must_use]
    pub fn applied_to(&self, catalog: &Catalog) -> Catalog {
        let mut applied = catalog.clone();
        if self.is_empty() {
            return applied;
        }
        applied.revision = self.revision.saturating_add(1);
        for service in &self.dropped_services {
            if let Some(versions) = applied.services.get_mut(&service.name) {
                versions.remove(&service.version);
            }
        }
        applied.services.retain(|_, versions| !versions.is_empty());
        for change in &self.views {
            let view = &change.view;
            match change.action {
                Action::Drop => applied.views.remove(&view.name),
                Action::Create | Action::Update => {
                    applied.views.insert(view.name.clone(), Arc::clone(view))
                }
            };
        }
        for name in &self.dropped_entities {
            applied.entities.remove(name);
        }
        for entity in &self.entities {
            let name = entity.name.clone();
            applied.entities.insert(name, Arc::clone(entity));
        }
        for service in &self.services {
            let versions = applied.services.entry(service.name.clone()).or_default();
            versions.insert(service.version, Arc::clone(service));
        }
        applied
    }

    /// Refuses a plan that would lose data.
    ///
    /// # Errors
    /// `FailedPrecondition` that names all that would be lost.
    pub fn check_no_loss(&self) -> Result<()> {
        let losses: Vec<&str> = self
            .changes
            .iter()
            .flat_map(|change| &change.losses)
            .map(String::as_str)
            .collect();
        if losses.is_empty() {
            return Ok(());
        }
        Err(Error::failed_precondition(format!(
            "{}; nothing was changed. Where that is meant, apply it with --allow-data-loss (allowDataLoss in a request)",
            losses.join("; ")
        )))
    }

    fn tell(&mut self, action: Action, kind: &'static str, name: &str, details: Vec<String>) {
        self.changes.push(Change {
            action,
            kind,
            name: name.to_owned(),
            details,
            losses: Vec::new(),
        });
    }

    fn drop_services(&mut self, catalog: &Catalog, definitions: &Definitions) {
        let all = catalog.services.values().flat_map(|all| all.values());
        for service in all.filter(|service| service.project == definitions.project) {
            let is_defined =
                |s: &Arc<FeatureService>| s.name == service.name && s.version == service.version;
            if !definitions.services.iter().any(is_defined) {
                let name = versioned(service);
                self.changes.push(Change {
                    action: Action::Drop,
                    kind: "feature_service",
                    losses: vec![format!(
                        "feature service {name}: who asks for it would find nothing, and the version could come back as another list"
                    )],
                    name,
                    details: Vec::new(),
                });
                self.dropped_services.push(Arc::clone(service));
            }
        }
    }

    fn drop_views(&mut self, catalog: &Catalog, definitions: &Definitions) {
        let is_defined = |view: &FeatureView| definitions.views.iter().any(|v| v.name == view.name);
        let gone =
            |view: &Arc<FeatureView>| view.project == definitions.project && !is_defined(view);
        for view in catalog.views.values().filter(|view| gone(view)) {
            self.push(view_change::drop(view));
            let entity = &view.entity;
            let is_needed = definitions.entities.iter().any(|e| e.name == *entity)
                || catalog
                    .views
                    .values()
                    .any(|other| other.entity == *entity && !gone(other));
            if !is_needed && !self.dropped_entities.contains(entity) {
                self.tell(Action::Drop, "entity", entity, Vec::new());
                self.dropped_entities.push(entity.clone());
            }
        }
    }

    fn add_entity(
        &mut self,
        catalog: &Catalog,
        definitions: &Definitions,
        entity: &Arc<Entity>,
        refusals: &mut Vec<String>,
    ) {
        let keys = || entity.join_keys.iter().map(describe).collect();
        match catalog.entities.get(&entity.name) {
            None => self.tell(Action::Create, "entity", &entity.name, keys()),
            Some(old) if old == entity => return,
            Some(old) if !same_columns(&old.join_keys, &entity.join_keys) => {
                let others = catalog
                    .views
                    .values()
                    .find(|view| view.entity == entity.name && view.project != definitions.project);
                if let Some(view) = others {
                    refusals.push(format!(
                        "entity {}: its join keys cannot change, the feature view {} of the project {} finds rows by them",
                        entity.name, view.name, view.project
                    ));
                    return;
                }
                self.tell(Action::Update, "entity", &entity.name, keys());
            }
            Some(_) => {
                let details = vec!["description".to_owned()];
                self.tell(Action::Update, "entity", &entity.name, details);
            }
        }
        self.entities.push(Arc::clone(entity));
    }

    fn add_view(&mut self, catalog: &Catalog, view: &Arc<FeatureView>, refusals: &mut Vec<String>) {
        let Some(old) = catalog.views.get(&view.name) else {
            self.push(view_change::create(view));
            return;
        };
        if old.project != view.project {
            refusals.push(format!(
                "feature view {}: it belongs to the project {}; choose another name",
                view.name, old.project
            ));
            return;
        }
        if let Some(told) = view_change::update(old, view) {
            self.push(told);
        }
    }

    fn push(&mut self, told: Told) {
        self.changes.push(Change {
            action: told.change.action,
            kind: "feature_view",
            name: told.change.view.name.clone(),
            details: told.details,
            losses: told.losses,
        });
        self.views.push(told.change);
    }

    fn add_service(
        &mut self,
        catalog: &Catalog,
        service: &Arc<FeatureService>,
        refusals: &mut Vec<String>,
    ) {
        let name = versioned(service);
        let versions = catalog.services.get(&service.name);
        let project = versions
            .and_then(|versions| versions.values().next())
            .map(|any| &any.project);
        if let Some(project) = project.filter(|project| **project != service.project) {
            refusals.push(format!(
                "feature service {}: it belongs to the project {project}; choose another name",
                service.name
            ));
            return;
        }
        match versions.and_then(|versions| versions.get(&service.version)) {
            Some(old) if old == service => return,
            Some(old) if old.features != service.features => {
                refusals.push(format!(
                    "feature service {name}: its features cannot change under its callers; define version {}",
                    service.version.saturating_add(1)
                ));
                return;
            }
            Some(_) => {
                let details = vec!["description".to_owned()];
                self.tell(Action::Update, "feature_service", &name, details);
            }
            None => {
                let features = service.features.iter().map(ToString::to_string);
                let features = features.collect();
                self.tell(Action::Create, "feature_service", &name, features);
            }
        }
        self.services.push(Arc::clone(service));
    }
}

fn versioned(service: &FeatureService) -> String {
    format!("{}@{}", service.name, service.version)
}
