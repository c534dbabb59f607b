//! What has to change for one view to be as it is defined, and what that would lose.

use std::{sync::Arc, time::Duration};

use super::{Action, FeatureView, Field, TtlCalendar};

/// What happens to a view's table of rows, or to its table of history.
#[derive(Debug, Clone, PartialEq)]
pub enum TableChange {
    /// Nothing.
    Keep,
    /// It has to be made.
    Create,
    /// It loses columns and then gets others; a feature whose type changes is in both.
    Alter {
        /// The names of features that go.
        dropped: Vec<String>,
        /// The features that come.
        added: Vec<Field>,
    },
    /// It goes, with all that is in it.
    Drop,
    /// It goes, and is made anew and empty.
    Recreate,
}

/// One change of a view, for a store.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewChange {
    /// What happens to the definition.
    pub action: Action,
    /// The view as it is to be; one that goes, as it was.
    pub view: Arc<FeatureView>,
    /// What happens to its rows.
    pub table: TableChange,
    /// What happens to its history.
    pub history: TableChange,
}

/// A change of a view, and what it means to people.
pub(super) struct Told {
    /// For the store.
    pub(super) change: ViewChange,
    /// What changes, a line each.
    pub(super) details: Vec<String>,
    /// What would be lost, a sentence each.
    pub(super) losses: Vec<String>,
}

/// A view that is new.
pub(super) fn create(view: &Arc<FeatureView>) -> Told {
    let mut details: Vec<String> = view.features.iter().map(describe).collect();
    if let Some(table) = &view.table {
        details.push(format!("on the table {}", table.name));
    }
    Told {
        change: ViewChange {
            action: Action::Create,
            view: Arc::clone(view),
            table: between(false, has_table(view)),
            history: between(false, view.history),
        },
        details,
        losses: Vec::new(),
    }
}

/// A view that is defined no longer.
pub(super) fn drop(view: &Arc<FeatureView>) -> Told {
    let mut losses = Vec::new();
    if has_table(view) {
        losses.push(format!(
            "feature view {}: dropping it would lose its rows",
            view.name
        ));
    }
    Told {
        change: ViewChange {
            action: Action::Drop,
            view: Arc::clone(view),
            table: between(has_table(view), false),
            history: between(view.history, false),
        },
        details: view.features.iter().map(describe).collect(),
        losses,
    }
}

/// A view that is there and defined; none where it is as defined.
pub(super) fn update(old: &FeatureView, defined: &FeatureView) -> Option<Told> {
    let columns = ColumnChange::between(old, defined);
    let view = columns.onto(old, defined);
    if view == *old {
        return None;
    }
    let name = &view.name;
    let mut losses = Vec::new();
    let is_rekeyed = old.entity != view.entity || !same_columns(&old.join_keys, &view.join_keys);
    let table = columns.of_table(is_rekeyed, has_table(old), has_table(&view));
    let history = columns.of_table(is_rekeyed, old.history, view.history);
    match &table {
        TableChange::Recreate => losses.push(format!(
            "feature view {name}: another entity, or other join keys of it, would lose its rows"
        )),
        TableChange::Drop => losses.push(format!(
            "feature view {name}: reading the table of somebody else would lose its own rows"
        )),
        TableChange::Alter { .. } => losses.extend(columns.losses(old, name)),
        TableChange::Keep | TableChange::Create => {}
    }
    if history == TableChange::Drop {
        losses.push(format!("feature view {name}: its history would be lost"));
    }
    let details = differences(old, &view, &columns, is_rekeyed);
    Some(Told {
        change: ViewChange {
            action: Action::Update,
            view: Arc::new(view),
            table,
            history,
        },
        details,
        losses,
    })
}

/// Features that go and features that come.
struct ColumnChange {
    dropped: Vec<String>,
    added: Vec<Field>,
}

impl ColumnChange {
    fn between(old: &FeatureView, new: &FeatureView) -> ColumnChange {
        let has = |fields: &[Field], wanted: &Field| {
            fields
                .iter()
                .any(|field| field.name == wanted.name && field.value_type == wanted.value_type)
        };
        let dropped = old.features.iter().filter(|f| !has(&new.features, f));
        let added = new.features.iter().filter(|f| !has(&old.features, f));
        ColumnChange {
            dropped: dropped.map(|field| field.name.clone()).collect(),
            added: added.cloned().collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.dropped.is_empty() && self.added.is_empty()
    }

    /// The view as defined, with the generations of the one that is there.
    fn onto(&self, old: &FeatureView, defined: &FeatureView) -> FeatureView {
        let mut view = defined.clone();
        view.generation = old.generation;
        view.added.clone_from(&old.added);
        if self.is_empty() {
            return view;
        }
        view.generation = old.generation.saturating_add(1);
        for name in &self.dropped {
            view.added.remove(name);
        }
        for field in &self.added {
            view.added.insert(field.name.clone(), view.generation);
        }
        view
    }

    fn of_table(&self, is_rekeyed: bool, was_there: bool, is_wanted: bool) -> TableChange {
        if !was_there || !is_wanted {
            return between(was_there, is_wanted);
        }
        if is_rekeyed {
            return TableChange::Recreate;
        }
        if self.is_empty() {
            return TableChange::Keep;
        }
        TableChange::Alter {
            dropped: self.dropped.clone(),
            added: self.added.clone(),
        }
    }

    fn losses(&self, old: &FeatureView, view: &str) -> Vec<String> {
        let lost = |name: &String| {
            let becomes = self.added.iter().find(|field| field.name == *name);
            let was = old.features.iter().find(|field| field.name == *name);
            match (was, becomes) {
                (Some(was), Some(becomes)) => format!(
                    "feature view {view}: changing {name} from {} to {} would lose its values",
                    was.value_type, becomes.value_type
                ),
                _ => format!("feature view {view}: taking out {name} would lose its values"),
            }
        };
        self.dropped.iter().map(lost).collect()
    }
}

fn has_table(view: &FeatureView) -> bool {
    view.table.is_none()
}

fn between(was_there: bool, is_wanted: bool) -> TableChange {
    match (was_there, is_wanted) {
        (false, true) => TableChange::Create,
        (true, false) => TableChange::Drop,
        (true, true) | (false, false) => TableChange::Keep,
    }
}

/// A column as the plan shows it.
pub(super) fn describe(field: &Field) -> String {
    format!("{} {}", field.name, field.value_type)
}

/// Whether two lists have the same names and types in the same order, whatever their descriptions say.
pub(crate) fn same_columns(old: &[Field], new: &[Field]) -> bool {
    old.len() == new.len()
        && old
            .iter()
            .zip(new)
            .all(|(a, b)| a.name == b.name && a.value_type == b.value_type)
}

fn calendar_change(old: Option<&TtlCalendar>, new: Option<&TtlCalendar>) -> String {
    match (old, new) {
        (Some(old), Some(new)) => format!(
            "ttl calendar {old} to {new}: {} days added, {} taken out",
            new.days_beyond(old),
            old.days_beyond(new)
        ),
        (None, Some(new)) => format!("ttl calendar none to {new}"),
        (Some(old), None) => format!("ttl calendar {old} to none"),
        (None, None) => String::new(),
    }
}

/// What is different, a line each.
fn differences(
    old: &FeatureView,
    new: &FeatureView,
    columns: &ColumnChange,
    is_rekeyed: bool,
) -> Vec<String> {
    let mut lines = Vec::new();
    if is_rekeyed {
        let keys: Vec<String> = new.join_keys.iter().map(describe).collect();
        lines.push(format!("entity {} ({})", new.entity, keys.join(", ")));
    }
    lines.extend(columns.dropped.iter().map(|name| format!("drop {name}")));
    let added = columns.added.iter();
    lines.extend(added.map(|field| format!("add {}", describe(field))));
    if old.ttl != new.ttl {
        let shown = |ttl: Option<Duration>| ttl.map_or("none".to_owned(), |ttl| format!("{ttl:?}"));
        lines.push(format!("ttl {} to {}", shown(old.ttl), shown(new.ttl)));
    }
    if old.ttl_calendar != new.ttl_calendar {
        lines.push(calendar_change(
            old.ttl_calendar.as_ref(),
            new.ttl_calendar.as_ref(),
        ));
    }
    if old.source != new.source {
        lines.push("source".to_owned());
    }
    if old.table != new.table {
        lines.push(match &new.table {
            Some(table) => format!("on the table {}", table.name),
            None => "a table of its own".to_owned(),
        });
    }
    if old.history != new.history {
        let verb = if new.history { "keep" } else { "drop" };
        lines.push(format!("{verb} history"));
    }
    if lines.is_empty() {
        lines.push("descriptions or order".to_owned());
    }
    lines
}
