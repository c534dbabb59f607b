//! Reads a definitions file (`features.toml`) and reports every fault of it at once.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use super::{
    Entity, ExistingTable, FeatureRef, FeatureService, FeatureView, Field, Source,
    calendar::CalendarText, definition_checks::Faults,
};
use crate::error::{Error, Result};

/// What one definitions file defines, valid in itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Definitions {
    /// The file's project.
    pub project: String,
    /// The entities, in the file's order.
    pub entities: Vec<Arc<Entity>>,
    /// The views, in the file's order.
    pub views: Vec<Arc<FeatureView>>,
    /// The feature services, in the file's order.
    pub services: Vec<Arc<FeatureService>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    project: String,
    #[serde(default)]
    entities: Vec<Entity>,
    #[serde(default)]
    feature_views: Vec<ViewText>,
    #[serde(default)]
    feature_services: Vec<ServiceText>,
}

/// A feature view as the file writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ViewText {
    pub(super) name: String,
    #[serde(default)]
    pub(super) description: String,
    pub(super) entity: String,
    #[serde(default)]
    pub(super) ttl: Option<String>,
    #[serde(default)]
    pub(super) ttl_calendar: Option<CalendarText>,
    #[serde(default)]
    pub(super) source: Option<Source>,
    #[serde(default)]
    pub(super) history: bool,
    #[serde(default)]
    pub(super) table: Option<ExistingTable>,
    pub(super) features: Vec<Field>,
}

/// A feature service as the file writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceText {
    pub(super) name: String,
    #[serde(default = "first_version")]
    pub(super) version: u32,
    #[serde(default)]
    pub(super) description: String,
    pub(super) features: Vec<FeatureRef>,
}

fn first_version() -> u32 {
    1
}

impl Definitions {
    /// Reads the text of a definitions file.
    ///
    /// # Errors
    /// `InvalidArgument` with every fault: TOML that does not parse (with line and column), names that cannot be
    /// columns, duplicates, an entity that the file does not define, a TTL that is no duration,
    /// a calendar that is none.
    pub fn parse(text: &str) -> Result<Definitions> {
        let file: FileText = toml::from_str(text)
            .map_err(|fault| Error::invalid("definitions", fault.to_string().trim().to_owned()))?;
        let mut faults = Faults::default();
        faults.check_name("project", &file.project);

        let mut entities = BTreeMap::new();
        let mut entities_in_order = Vec::new();
        for (index, entity) in file.entities.into_iter().enumerate() {
            faults.check_entity(&format!("entities[{index}]"), &entity);
            let entity = Arc::new(entity);
            if entities
                .insert(entity.name.clone(), Arc::clone(&entity))
                .is_some()
            {
                faults.add(
                    format!("entities[{index}].name"),
                    format!("\"{}\" is defined twice", entity.name),
                );
            }
            entities_in_order.push(entity);
        }

        let mut views = Vec::new();
        for (index, view) in file.feature_views.into_iter().enumerate() {
            let place = format!("feature_views[{index}]");
            faults.check_view_name(&place, &view.name, &views);
            views.extend(faults.check_view(&place, &file.project, view, &entities));
        }
        let mut services = Vec::new();
        for (index, service) in file.feature_services.into_iter().enumerate() {
            let place = format!("feature_services[{index}]");
            faults.check_service(&place, &service, &views, &services);
            services.push(Arc::new(FeatureService {
                name: service.name,
                version: service.version,
                project: file.project.clone(),
                description: service.description,
                features: service.features,
            }));
        }
        faults.found.into_result(Definitions {
            project: file.project,
            entities: entities_in_order,
            views,
            services,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::time::Duration;

    use super::*;
    use crate::catalog::{ScalarType, ValueType};

    const GOOD: &str = r#"
        project = "demo"
        [[entities]]
        name = "loan"
        join_keys = [{ name = "loan_id", type = "string" }]
        [[feature_views]]
        name = "applicant"
        entity = "loan"
        ttl = "30d"
        source = { path = "data/applicant.parquet" }
        features = [{ name = "annual_inc", type = "double", description = "USD" }]
    "#;

    #[test]
    fn a_good_file_becomes_views_that_know_their_keys() {
        let definitions = Definitions::parse(GOOD).unwrap();
        let view = &definitions.views[0];
        assert_eq!(view.join_keys[0].name, "loan_id");
        assert_eq!(view.features[0].value_type, ValueType::Double);
        assert_eq!(view.ttl, Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(
            view.source.as_ref().unwrap().timestamp_field,
            "event_timestamp"
        );
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let error = Definitions::parse(
            r#"
            project = "demo"
            [[entities]]
            name = "loan"
            join_keys = [{ name = "loan_id", type = "double" }]
            [[feature_views]]
            name = "9lives"
            entity = "loan"
            ttl = "soon"
            source = { path = "data.xlsx" }
            features = [
              { name = "created_at", type = "double" },
              { name = "x", type = "double" },
              { name = "X", type = "double" },
            ]
            [[feature_views]]
            name = "terms"
            entity = "nobody"
            features = [{ name = "y", type = "double" }]
            "#,
        )
        .unwrap_err();
        let fields: Vec<&str> = error.fields().iter().map(|v| v.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "entities[0].join_keys[0].type",
                "feature_views[0].name",
                "feature_views[0].features[0].name",
                "feature_views[0].features[2].name",
                "feature_views[0].ttl",
                "feature_views[0].source.path",
                "feature_views[1].entity",
            ]
        );
    }

    #[test]
    fn an_unknown_key_or_type_is_refused_with_its_line() {
        let unknown_key = GOOD.replace("ttl =", "tll =");
        assert!(
            Definitions::parse(&unknown_key)
                .unwrap_err()
                .message()
                .contains("tll")
        );
        let unknown_type = GOOD.replace("\"double\"", "\"decimal\"");
        let message = Definitions::parse(&unknown_type).unwrap_err().to_string();
        assert!(
            message.contains("decimal") && message.contains("line"),
            "{message}"
        );
    }

    #[test]
    fn lists_tables_queries_and_services_are_read() {
        let text = format!(
            r#"{GOOD}
            [[feature_views]]
            name = "account"
            entity = "loan"
            table = {{ name = "crm.accounts", timestamp_field = "changed", columns = {{ loan_id = "id" }} }}
            features = [{{ name = "embedding", type = "list<float>" }}]
            [[feature_views]]
            name = "orders"
            entity = "loan"
            history = true
            source = {{ query = "SELECT * FROM orders" }}
            features = [{{ name = "total", type = "double" }}]
            [[feature_services]]
            name = "risk"
            version = 2
            features = ["orders:total", "account:embedding"]
            "#
        );
        let definitions = Definitions::parse(&text).unwrap();
        let account = &definitions.views[1];
        let table = account.table.as_ref().unwrap();
        assert_eq!(table.column("loan_id"), "id");
        assert_eq!(table.column("embedding"), "embedding");
        assert_eq!(
            account.features[0].value_type,
            ValueType::List(ScalarType::Float)
        );
        assert!(definitions.views[2].history);
        assert_eq!(definitions.services[0].features[1].feature, "embedding");
        let json = serde_json::to_string(definitions.views[2].as_ref()).unwrap();
        let back: FeatureView = serde_json::from_str(&json).unwrap();
        assert_eq!(back, *definitions.views[2]);
    }

    #[test]
    fn faults_of_tables_and_services_are_named() {
        let text = format!(
            r#"{GOOD}
            [[feature_views]]
            name = "account"
            entity = "loan"
            history = true
            source = {{ path = "data/" }}
            table = {{ name = "crm.accounts", columns = {{ nobody = "id" }} }}
            features = [{{ name = "x", type = "double" }}]
            [[feature_services]]
            name = "risk"
            version = 0
            features = ["applicant:nothing", "applicant:annual_inc", "applicant:annual_inc"]
            [[feature_services]]
            name = "risk"
            version = 0
            features = []
            "#
        );
        let error = Definitions::parse(&text).unwrap_err();
        let fields: Vec<&str> = error.fields().iter().map(|v| v.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "feature_views[1].source",
                "feature_views[1].history",
                "feature_views[1].table.columns",
                "feature_services[0].version",
                "feature_services[0].features[0]",
                "feature_services[0].features[2]",
                "feature_services[1].version",
                "feature_services[1].version",
                "feature_services[1].features",
            ]
        );
    }
}
