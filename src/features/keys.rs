//! Entities as a caller names them, and the keys of each view that they become.

use super::{EntityKey, FeatureSelection, KeyValues, RawRow, request_faults};
use crate::{
    catalog::{Entity, FeatureView, Field},
    error::{Result, Violations},
};

/// The keys of every view of a selection, a list a view, each in the order of the entities.
///
/// # Errors
/// `InvalidArgument` naming entity and key: a join key that is missing, null or of the wrong type, or a key that no view
/// of the selection has.
pub fn entity_keys(
    selection: &FeatureSelection,
    entities: &[RawRow],
) -> Result<Vec<Vec<EntityKey>>> {
    let all: Vec<usize> = (0..entities.len()).collect();
    entity_keys_at(selection, entities, &all)
}

/// As `entity_keys`, of the entities at some positions of a list; messages name them by these.
///
/// # Errors
/// As `entity_keys`.
pub fn entity_keys_at(
    selection: &FeatureSelection,
    entities: &[RawRow],
    positions: &[usize],
) -> Result<Vec<Vec<EntityKey>>> {
    let chosen = || {
        let positions = positions.iter();
        positions.filter_map(|index| Some((*index, entities.get(*index)?)))
    };
    let mut faults = request_faults();
    for (index, entity) in chosen() {
        refuse_unknown_keys(selection, index, entity, &mut faults);
        if faults.is_full() {
            break;
        }
    }
    let mut keys_by_view = Vec::with_capacity(selection.views.len());
    for selected in &selection.views {
        let mut keys = Vec::with_capacity(positions.len());
        for (index, entity) in chosen() {
            let place = || format!("entities[{index}]");
            keys.extend(view_key(&selected.view, entity, place, &mut faults));
            if faults.is_full() {
                break;
            }
        }
        keys_by_view.push(keys);
    }
    faults.into_result(keys_by_view)
}

/// The key of one entity by its definition, with `place` in front of what is at fault.
///
/// # Errors
/// `InvalidArgument` naming the join key that is missing, null or of the wrong type, or a name that is none.
pub fn key_of(entity: &Entity, raw: &RawRow, place: &str) -> Result<EntityKey> {
    let mut faults = request_faults();
    for (name, _) in &raw.fields {
        if !entity.join_keys.iter().any(|key| key.name == *name) {
            let fault = format!("is no join key of the entity \"{}\"", entity.name);
            faults.add(format!("{place}.{name}"), fault);
        }
    }
    let missing = || format!("the join key is missing; a {} is found by it", entity.name);
    let place = || place.to_owned();
    let values = key_values(&entity.join_keys, raw, place, missing, &mut faults);
    faults.into_result(values).and_then(EntityKey::new)
}

/// The key of one entity in one view; none, and a fault, where it is not whole.
pub(super) fn view_key(
    view: &FeatureView,
    entity: &RawRow,
    place: impl Fn() -> String,
    faults: &mut Violations,
) -> Option<EntityKey> {
    let missing = || {
        format!(
            "the join key is missing; the feature view \"{}\" finds a {} by it",
            view.name, view.entity
        )
    };
    let values = key_values(&view.join_keys, entity, place, missing, faults);
    if values.len() < view.join_keys.len() {
        return None;
    }
    EntityKey::new(values).ok()
}

/// The values of join keys, and a fault for each that has none.
fn key_values(
    join_keys: &[Field],
    raw: &RawRow,
    place: impl Fn() -> String,
    missing: impl Fn() -> String,
    faults: &mut Violations,
) -> KeyValues {
    let mut values = KeyValues::with_capacity(join_keys.len());
    for join_key in join_keys {
        let field = || format!("{}.{}", place(), join_key.name);
        let raw = raw.get(&join_key.name);
        match raw.map(|raw| raw.to_value(join_key.value_type)) {
            Some(Ok(value)) if !value.is_null() => values.push(value),
            Some(Ok(_)) => faults.add(field(), "a join key cannot be null"),
            Some(Err(fault)) => faults.add(field(), fault),
            None => faults.add(field(), missing()),
        }
    }
    values
}

fn refuse_unknown_keys(
    selection: &FeatureSelection,
    index: usize,
    entity: &RawRow,
    faults: &mut Violations,
) {
    for (name, _) in &entity.fields {
        let is_known = selection
            .views
            .iter()
            .flat_map(|selected| &selected.view.join_keys)
            .any(|key| key.name == *name);
        if !is_known {
            faults.add(
                format!("entities[{index}].{name}"),
                "is no join key of the views asked for",
            );
        }
    }
}
