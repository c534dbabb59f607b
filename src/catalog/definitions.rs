//! Reads a definitions file (`features.toml`) and reports every fault of it at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;

use super::{Entity, FeatureView, Field, Source};
use crate::error::{Error, Result, Violations};

/// What a `google.protobuf.Duration` can hold: some 10,000 years.
const DURATION_MAX: Duration = Duration::from_secs(315_576_000_000);
/// A view's table name starts with three characters of ours, and PostgreSQL cuts names at 63 bytes.
const NAME_BYTES_MAX: usize = 60;
const FEATURES_MAX: usize = 1_000;
/// A PostgreSQL index has at most 32 columns.
const JOIN_KEYS_MAX: usize = 16;
/// Columns that every table has: ours, in both spellings of the wire, and PostgreSQL's own.
const RESERVED_NAMES: [&str; 10] = [
    "event_timestamp",
    "created_at",
    "eventtimestamp",
    "createdat",
    "tableoid",
    "xmin",
    "cmin",
    "xmax",
    "cmax",
    "ctid",
];

/// What one definitions file defines, valid in itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Definitions {
    /// The file's project.
    pub project: String,
    /// The entities, in the file's order.
    pub entities: Vec<Arc<Entity>>,
    /// The views, in the file's order.
    pub views: Vec<Arc<FeatureView>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    project: String,
    #[serde(default)]
    entities: Vec<Entity>,
    #[serde(default)]
    feature_views: Vec<ViewText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ViewText {
    name: String,
    #[serde(default)]
    description: String,
    entity: String,
    #[serde(default)]
    ttl: Option<String>,
    #[serde(default)]
    source: Option<Source>,
    features: Vec<Field>,
}

impl Definitions {
    /// Reads the text of a definitions file.
    ///
    /// # Errors
    /// `InvalidArgument` with every fault: TOML that does not parse (with line and column), names that cannot be
    /// columns, duplicates, an entity that the file does not define, a TTL that is no duration.
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

        let mut names = BTreeSet::new();
        let mut views = Vec::new();
        for (index, view) in file.feature_views.into_iter().enumerate() {
            let place = format!("feature_views[{index}]");
            if !names.insert(view.name.to_lowercase()) {
                faults.add(
                    format!("{place}.name"),
                    format!("\"{}\" is defined twice", view.name),
                );
            }
            views.extend(faults.check_view(&place, &file.project, view, &entities));
        }
        faults.found.into_result(Definitions {
            project: file.project,
            entities: entities_in_order,
            views,
        })
    }
}

/// The checks of a file's parts; each fault with its place.
#[derive(Default)]
struct Faults {
    found: Violations,
}

impl Faults {
    fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.found.add(field, description);
    }

    fn check_name(&mut self, place: &str, name: &str) {
        let mut characters = name.chars();
        let starts_well = characters
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
        let goes_on_well = characters.all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !starts_well || !goes_on_well || name.len() > NAME_BYTES_MAX {
            self.add(
                place,
                format!(
                    "\"{name}\" is no name: a letter or _, then letters, digits or _, {NAME_BYTES_MAX} characters at the most"
                ),
            );
        }
    }

    fn check_column(&mut self, place: &str, name: &str, taken: &mut BTreeSet<String>) {
        self.check_name(place, name);
        // SQLite does not tell the case of column names apart.
        let folded = name.to_lowercase();
        if RESERVED_NAMES.contains(&folded.as_str()) {
            self.add(
                place,
                format!("\"{name}\" is a column that every table has; choose another name"),
            );
        }
        if !taken.insert(folded) {
            self.add(place, format!("the column \"{name}\" is there twice"));
        }
    }

    fn check_entity(&mut self, place: &str, entity: &Entity) {
        self.check_name(&format!("{place}.name"), &entity.name);
        if entity.join_keys.is_empty() || entity.join_keys.len() > JOIN_KEYS_MAX {
            self.add(
                format!("{place}.join_keys"),
                format!(
                    "an entity has 1 to {JOIN_KEYS_MAX} join keys, not {}",
                    entity.join_keys.len()
                ),
            );
        }
        let mut taken = BTreeSet::new();
        for (index, key) in entity.join_keys.iter().enumerate() {
            let place = format!("{place}.join_keys[{index}]");
            self.check_column(&format!("{place}.name"), &key.name, &mut taken);
            if !key.value_type.can_be_key() {
                self.add(
                    format!("{place}.type"),
                    format!(
                        "a join key is a string, int32, int64 or bytes, not a {}",
                        key.value_type
                    ),
                );
            }
        }
    }

    fn check_view(
        &mut self,
        place: &str,
        project: &str,
        view: ViewText,
        entities: &BTreeMap<String, Arc<Entity>>,
    ) -> Option<Arc<FeatureView>> {
        self.check_name(&format!("{place}.name"), &view.name);
        let Some(entity) = entities.get(&view.entity) else {
            self.add(
                format!("{place}.entity"),
                format!("the file defines no entity \"{}\"", view.entity),
            );
            return None;
        };
        if view.features.is_empty() || view.features.len() > FEATURES_MAX {
            self.add(
                format!("{place}.features"),
                format!(
                    "a view has 1 to {FEATURES_MAX} features, not {}",
                    view.features.len()
                ),
            );
        }
        let mut taken: BTreeSet<String> = entity
            .join_keys
            .iter()
            .map(|key| key.name.to_lowercase())
            .collect();
        for (index, feature) in view.features.iter().enumerate() {
            self.check_column(
                &format!("{place}.features[{index}].name"),
                &feature.name,
                &mut taken,
            );
        }
        let ttl = match view.ttl.as_deref().map(parse_duration).transpose() {
            Ok(ttl) => ttl.filter(|ttl| !ttl.is_zero()),
            Err(fault) => {
                self.add(format!("{place}.ttl"), fault);
                None
            }
        };
        if let Some(source) = &view.source
            && !source.path.ends_with(".parquet")
            && !source.path.ends_with(".csv")
        {
            self.add(
                format!("{place}.source.path"),
                format!("\"{}\" is neither .parquet nor .csv", source.path),
            );
        }
        Some(Arc::new(FeatureView {
            name: view.name,
            project: project.to_owned(),
            description: view.description,
            entity: view.entity,
            join_keys: entity.join_keys.clone(),
            features: view.features,
            ttl,
            source: view.source,
        }))
    }
}

/// Reads a duration as a person writes it: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
///
/// # Errors
/// A sentence that says what is accepted.
fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    let fault = || {
        format!(
            "\"{text}\" is no duration: a whole number and ms, s, m, h or d, as \"90s\" or \"30d\""
        )
    };
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?;
    let (digits, unit) = text.split_at(digits_end);
    let count: u64 = digits.parse().map_err(|_| fault())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(fault()),
    };
    let duration = count
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(fault)?;
    if duration > DURATION_MAX {
        return Err(format!("\"{text}\" is more than 10,000 years"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::catalog::ValueType;

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
    fn durations_have_a_unit_and_a_bound() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for bad in [
            "",
            "5",
            "s",
            "1.5h",
            "-1s",
            "1w",
            "4000000d",
            "99999999999999999999d",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
