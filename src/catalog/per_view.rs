//! What is made from a view's definition and kept for as long as that stays as it is.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use super::FeatureView;

/// One value a view, by its name; a view that was defined anew has none until it is made again.
#[derive(Debug)]
pub struct PerView<T> {
    by_name: RwLock<HashMap<String, (FeatureView, T)>>,
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
        let known = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        let (definition, value) = known.get(&view.name)?;
        (definition == view).then(|| value.clone())
    }

    /// Keeps a value in place of what there was for the view's name.
    pub fn set(&self, view: &FeatureView, value: T) {
        let mut known = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(view.name.clone(), (view.clone(), value));
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
}
