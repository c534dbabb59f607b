//! The SQL of each view, built once: a view may have a thousand columns.

use std::sync::Arc;

use crate::catalog::{FeatureView, PerView};

/// A view and its SQL.
#[derive(Debug)]
pub(super) struct Statements {
    /// The view that the SQL is for.
    pub(super) view: FeatureView,
    /// Reads rows by key.
    pub(super) read: String,
    /// Writes whole rows where they are newer than all that is stored.
    pub(super) write: String,
    /// Reads the rows into which others have to be merged, after `write` has done what it can.
    pub(super) merge: String,
    /// Writes rows whatever is stored.
    pub(super) replace: String,
    /// Adds rows to the history, one after the other; none where the view keeps no history.
    pub(super) history: Vec<String>,
}

/// The statements of the views that have been used, one set a name.
pub(super) struct StatementCache {
    build: fn(&FeatureView) -> Statements,
    built: PerView<Arc<Statements>>,
}

impl StatementCache {
    /// An empty cache, with the dialect that fills it.
    pub(super) fn new(build: fn(&FeatureView) -> Statements) -> Self {
        StatementCache {
            build,
            built: PerView::default(),
        }
    }

    /// The statements of a view; built again where the view has changed.
    pub(super) fn of(&self, view: &FeatureView) -> Arc<Statements> {
        let build = |view: &FeatureView| Arc::new((self.build)(view));
        self.built.get_or_make(view, build)
    }
}
