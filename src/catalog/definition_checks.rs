//! The checks of a definitions file's parts; each fault with its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Entity, FeatureService, FeatureView, Origin, Source, TtlCalendar,
    calendar::CalendarText,
    definitions::{ServiceText, ViewText},
    duration::parse_duration,
    view::Identity,
};
use crate::error::Violations;

/// A view's table name starts with three characters of ours, and PostgreSQL cuts names at 63 bytes.
const NAME_BYTES_MAX: usize = 60;
const FEATURES_MAX: usize = 1_000;
/// A PostgreSQL index has at most 32 columns.
const JOIN_KEYS_MAX: usize = 16;
/// Columns that every table has: ours, in both spellings of the wire, and PostgreSQL's own.
const RESERVED_NAMES: [&str; 13] = [
    "event_timestamp",
    "created_at",
    "eventtimestamp",
    "createdat",
    "_feature_times",
    "_generation",
    "_missing",
    "tableoid",
    "xmin",
    "cmin",
    "xmax",
    "cmax",
    "ctid",
];

/// The faults that were found so far.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) found: Violations,
}

impl Faults {
    pub(super) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.found.add(field, description);
    }

    pub(super) fn check_name(&mut self, place: &str, name: &str) {
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

    pub(super) fn check_entity(&mut self, place: &str, entity: &Entity) {
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

    pub(super) fn check_view(
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
        let calendar = view.ttl_calendar.clone();
        let ttl_calendar = calendar
            .and_then(|text| self.check_calendar(&format!("{place}.ttl_calendar"), text, ttl));
        if let Some(source) = &view.source {
            self.check_source(&format!("{place}.source"), source);
        }
        self.check_table(place, &view, entity);
        Some(Arc::new(FeatureView {
            name: view.name,
            project: project.to_owned(),
            description: view.description,
            entity: view.entity,
            join_keys: entity.join_keys.clone(),
            features: view.features,
            ttl,
            ttl_calendar,
            source: view.source,
            history: view.history,
            table: view.table,
            generation: 0,
            added: BTreeMap::new(),
            identity: Identity::default(),
        }))
    }

    fn check_calendar(
        &mut self,
        place: &str,
        text: CalendarText,
        ttl: Option<Duration>,
    ) -> Option<TtlCalendar> {
        if ttl.is_none() {
            self.add(place, "the view has no ttl that a calendar could count for");
        }
        let faults = match TtlCalendar::new(text) {
            Ok(calendar) => return Some(calendar),
            Err(faults) => faults,
        };
        for (key, fault) in faults {
            let key = if key.is_empty() {
                key
            } else {
                format!(".{key}")
            };
            self.add(format!("{place}{key}"), fault);
        }
        None
    }

    /// A name that no view before has, in either case: SQLite does not tell table names apart by it.
    pub(super) fn check_view_name(&mut self, place: &str, name: &str, before: &[Arc<FeatureView>]) {
        if before
            .iter()
            .any(|view| view.name.eq_ignore_ascii_case(name))
        {
            self.add(
                format!("{place}.name"),
                format!("\"{name}\" is defined twice"),
            );
        }
    }

    fn check_source(&mut self, place: &str, source: &Source) {
        match &source.origin {
            Origin::Query(query) if query.trim().is_empty() => {
                self.add(format!("{place}.query"), "is empty");
            }
            Origin::Query(_) => {}
            Origin::Path(path) => {
                let name = path.rsplit('/').next().unwrap_or_default();
                let is_file = path.ends_with(".parquet") || path.ends_with(".csv");
                if path.is_empty() || (!is_file && name.contains('.')) {
                    self.add(
                        format!("{place}.path"),
                        format!(
                            "\"{path}\" is neither .parquet nor .csv, nor a folder of such files, which ends with /"
                        ),
                    );
                }
            }
        }
    }

    fn check_table(&mut self, place: &str, view: &ViewText, entity: &Entity) {
        let Some(table) = &view.table else {
            return;
        };
        if view.source.is_some() {
            self.add(
                format!("{place}.source"),
                "a view on an existing table is never loaded; it has no source",
            );
        }
        if view.history {
            self.add(
                format!("{place}.history"),
                "a view on an existing table is never written; it keeps no history",
            );
        }
        if table.name.is_empty() || table.timestamp_field.is_empty() {
            self.add(
                format!("{place}.table"),
                "the table's name and its timestamp column cannot be empty",
            );
        }
        for name in table.columns.keys() {
            let mut known = entity.join_keys.iter().chain(&view.features);
            if !known.any(|field| field.name == *name) {
                self.add(
                    format!("{place}.table.columns"),
                    format!("\"{name}\" is neither a join key nor a feature of the view"),
                );
            }
        }
    }

    pub(super) fn check_service(
        &mut self,
        place: &str,
        service: &ServiceText,
        views: &[Arc<FeatureView>],
        before: &[Arc<FeatureService>],
    ) {
        self.check_name(&format!("{place}.name"), &service.name);
        if service.version == 0 {
            self.add(format!("{place}.version"), "versions are counted from 1");
        }
        let is_same = |other: &Arc<FeatureService>| {
            other.name == service.name && other.version == service.version
        };
        if before.iter().any(is_same) {
            self.add(
                format!("{place}.version"),
                format!(
                    "version {} of \"{}\" is defined twice",
                    service.version, service.name
                ),
            );
        }
        let count = service.features.len();
        if count == 0 || count > FEATURES_MAX {
            self.add(
                format!("{place}.features"),
                format!("a feature service has 1 to {FEATURES_MAX} features, not {count}"),
            );
        }
        let mut taken = BTreeSet::new();
        for (index, reference) in service.features.iter().enumerate() {
            let view = views.iter().find(|view| view.name == reference.view);
            let is_known = view.is_some_and(|v| v.feature_index(&reference.feature).is_some());
            if !is_known {
                self.add(
                    format!("{place}.features[{index}]"),
                    format!("the file defines no feature \"{reference}\""),
                );
            }
            if !taken.insert(reference) {
                self.add(
                    format!("{place}.features[{index}]"),
                    format!("\"{reference}\" is there twice"),
                );
            }
        }
    }
}
