//! Entities as a caller names them, and the keys of each view that they become.

use super::{EntityKey, FeatureSelection, RawRow, request_faults};
use crate::{
    catalog::FeatureView,
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
    let mut faults = request_faults();
    for (index, entity) in entities.iter().enumerate() {
        refuse_unknown_keys(selection, index, entity, &mut faults);
        if faults.is_full() {
            break;
        }
    }
    let mut keys_by_view = Vec::with_capacity(selection.views.len());
    for selected in &selection.views {
        let mut keys = Vec::with_capacity(entities.len());
        for (index, entity) in entities.iter().enumerate() {
            let place = || format!("entities[{index}]");
            keys.extend(entity_key(&selected.view, entity, place, &mut faults));
            if faults.is_full() {
                break;
            }
        }
        keys_by_view.push(keys);
    }
    faults.into_result(keys_by_view)
}

/// The key of one entity in one view; none, and a fault, where it is not whole.
pub(super) fn entity_key(
    view: &FeatureView,
    entity: &RawRow,
    place: impl Fn() -> String,
    faults: &mut Violations,
) -> Option<EntityKey> {
    let mut values = Vec::with_capacity(view.join_keys.len());
    for join_key in &view.join_keys {
        let field = || format!("{}.{}", place(), join_key.name);
        let raw = entity.get(&join_key.name);
        match raw.map(|raw| raw.to_value(join_key.value_type)) {
            Some(Ok(value)) if !value.is_null() => values.push(value),
            Some(Ok(_)) => faults.add(field(), "a join key cannot be null"),
            Some(Err(fault)) => faults.add(field(), fault),
            None => faults.add(
                field(),
                format!(
                    "the join key is missing; the feature view \"{}\" finds a {} by it",
                    view.name, view.entity
                ),
            ),
        }
    }
    if values.len() < view.join_keys.len() {
        return None;
    }
    EntityKey::new(values).ok()
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
