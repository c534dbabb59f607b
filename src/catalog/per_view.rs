//! What is made from a view's definition and kept for as long as that stays as it is.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use super::FeatureView;

/// One value a view, by its name; a view that was defined anew has none until it is made again.
#[derive(Debug)]
pub struct PerView<T> {
    by_name: RwLock<HashMap<String, Kept<T>>>,
}

#[derive(Debug)]
struct Kept<T> {
    definition: FeatureView,
    /// Of the view that it was last asked for; to compare definitions takes longer than most that is done with a view.
    identity: Option<u64>,
    value: T,
}

impl<T> Default for PerView<T> {
    fn default() -> Self {
        PerView {
            by_name: RwLock::default(),
        }
    }
}

impl<T: Clone> PerView<T> {
    /// What is kept for a view that is exactly so.
    pub fn get(&self, view: &FeatureView) -> Option<T> {
        let asked = view.identity.number();
        {
            let known = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
            let kept = known.get(&view.name)?;
            if asked.is_some() && kept.identity == asked {
                return Some(kept.value.clone());
            }
            if kept.definition != *view {
                return None;
            }
            if asked.is_none() {
                return Some(kept.value.clone());
            }
        }
        let mut known = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let kept = known.get_mut(&view.name)?;
        // It may have become another one meanwhile.
        if kept.definition != *view {
            return None;
        }
        kept.identity = asked;
        Some(kept.value.clone())
    }

    /// Keeps a value in place of what there was for the view's name.
    pub fn set(&self, view: &FeatureView, value: T) {
        let mut known = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let kept = Kept {
            definition: view.clone(),
            identity: view.identity.number(),
            value,
        };
        known.insert(view.name.clone(), kept);
    }

    /// What is kept for the view of a name, however it is defined.
    pub fn named(&self, name: &str) -> Option<T> {
        let known = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name).map(|kept| kept.value.clone())
    }

    /// Keeps nothing any more of the view of a name.
    pub fn forget(&self, name: &str) {
        let mut known = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(name);
    }

    /// Keeps nothing any more.
    pub fn clear(&self) {
        let mut known = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        known.clear();
    }

    /// What is kept for a view, made where there is nothing yet.
    pub fn get_or_make(&self, view: &FeatureView, make: impl FnOnce(&FeatureView) -> T) -> T {
        if let Some(known) = self.get(view) {
            return known;
        }
        let fresh = make(view);
        self.set(view, fresh.clone());
        fresh
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::catalog::Definitions;

    #[test]
    fn another_definition_of_the_same_name_is_another_view() {
        let text = r#"
            project = "demo"
            [[entities]]
            name = "loan"
            join_keys = [{ name = "loan_id", type = "string" }]
            [[feature_views]]
            name = "applicant"
            entity = "loan"
            features = [{ name = "a", type = "int64" }]
        "#;
        let view = Definitions::parse(text).unwrap().views.remove(0);
        let mut grown = FeatureView::clone(&view);
        grown.generation += 1;
        let kept = PerView::default();
        assert_eq!(kept.get_or_make(&view, |_| 1), 1);
        assert_eq!(kept.get_or_make(&view, |_| 2), 1);
        assert_eq!(kept.get(&grown), None);
        assert_eq!(kept.get_or_make(&grown, |_| 3), 3);
        assert_eq!(kept.get(&view), None);
    }

    #[test]
    fn a_view_that_is_read_anew_is_known_and_a_changed_copy_is_not() {
        let text = r#"{"name": "applicant", "project": "demo", "description": "", "entity": "loan", "join_keys": [],
            "features": [], "ttl": null, "source": null}"#;
        let read = || serde_json::from_str::<FeatureView>(text).unwrap();
        let (view, again) = (read(), read());
        assert_ne!(view.identity.number(), again.identity.number());
        let kept = PerView::default();
        kept.set(&view, 1);
        assert_eq!([kept.get(&view), kept.get(&again)], [Some(1), Some(1)]);
        // Known by its identity now, and still by its definition.
        assert_eq!([kept.get(&again), kept.get(&view)], [Some(1), Some(1)]);
        let mut changed = view.clone();
        changed.generation += 1;
        assert_eq!(kept.get(&changed), None);
    }
}
