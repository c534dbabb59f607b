//! The layouts of a view's rows on their way through the join: history, spine and matches.
//!
//! Features that every row gave share one as-of join. A feature that some row did not give has one of its own, over the
//! rows that gave it. Both are a `Group`.

use std::{collections::BTreeSet, sync::Arc};

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::plan::ViewPlan;

/// The history's join key, as bytes.
pub(crate) const HISTORY_KEY: usize = 0;
/// The history's event time.
pub(crate) const HISTORY_TIME: usize = 1;
/// The time at which a row of the history was written; the number of its file where no column says it.
pub(crate) const HISTORY_CREATED: usize = 2;
/// Which features a row of the history did not give, by their position.
pub(crate) const HISTORY_MISSING: usize = 3;
/// The first feature of the history.
pub(crate) const HISTORY_FEATURES: usize = 4;

/// The spine's row number, from 0.
pub(crate) const SPINE_ROW: usize = 0;
/// The spine's join key, as bytes.
pub(crate) const SPINE_KEY: usize = 1;
/// The spine's time.
pub(crate) const SPINE_TIME: usize = 2;

/// The row number of the spine that a row of matches belongs to.
pub(crate) const MATCH_ROW: usize = 0;

/// The rows of a view's history, as they are joined.
pub(crate) fn history_schema(view: &ViewPlan) -> SchemaRef {
    let mut fields = vec![
        Field::new("key", DataType::LargeBinary, false),
        Field::new("time", DataType::Int64, false),
        Field::new("created", DataType::Int64, false),
        Field::new("missing", missing_type(), true),
    ];
    fields.extend(feature_fields(view));
    Arc::new(Schema::new(fields))
}

/// The type of the list of features that a row did not give.
pub(crate) fn missing_type() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::UInt32, true)))
}

/// The rows of the spine, as they are joined with one view.
pub(crate) fn spine_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("row", DataType::UInt64, false),
        Field::new("key", DataType::LargeBinary, true),
        Field::new("time", DataType::Int64, false),
    ]))
}

/// A view's features, as they stand in the output.
pub(crate) fn feature_fields(view: &ViewPlan) -> impl Iterator<Item = Field> {
    let features = view.features.iter();
    features.map(|feature| Field::new(&feature.output, feature.value_type.data_type(), true))
}

/// A view, with what its history told.
pub(crate) struct Groups {
    /// By group, the positions of its features.
    groups: Vec<Vec<usize>>,
    match_schema: SchemaRef,
    feature_count: usize,
}

impl Groups {
    /// The groups, where some features are not in every row.
    pub(crate) fn new(view: &ViewPlan, partial: &BTreeSet<usize>) -> Self {
        let all = 0..view.features.len();
        let whole: Vec<usize> = all.filter(|feature| !partial.contains(feature)).collect();
        let mut groups: Vec<Vec<usize>> = partial.iter().map(|feature| vec![*feature]).collect();
        if !whole.is_empty() {
            groups.push(whole);
        }
        let mut fields = vec![Field::new("row", DataType::UInt64, false)];
        for _ in &groups {
            fields.push(Field::new("time", DataType::Int64, true));
            fields.push(Field::new("created", DataType::Int64, true));
        }
        fields.extend(feature_fields(view));
        Groups {
            groups,
            match_schema: Arc::new(Schema::new(fields)),
            feature_count: view.features.len(),
        }
    }

    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// The feature of which a row of the history must not be without, to count in a group; none where all rows count.
    ///
    /// A group of several features is the one whose features every row gave; so it is with any one of them.
    pub(crate) fn given(&self, group: usize) -> Option<usize> {
        self.groups
            .get(group)
            .and_then(|features| features.first().copied())
    }

    /// The rows of matches: the spine's row, each group's times, the features in their order.
    pub(crate) fn match_schema(&self) -> &SchemaRef {
        &self.match_schema
    }

    /// The column of matches with a group's event time; null where nothing matched.
    pub(crate) fn time_column(group: usize) -> usize {
        1 + 2 * group
    }

    /// The column of matches with the time at which a group's row was written.
    pub(crate) fn created_column(group: usize) -> usize {
        2 + 2 * group
    }

    /// The column of matches with a feature.
    pub(crate) fn feature_column(&self, feature: usize) -> usize {
        1 + 2 * self.groups.len() + feature
    }

    /// The group of each feature, in the features' order.
    pub(crate) fn feature_groups(&self) -> Vec<usize> {
        let mut of_feature = vec![0; self.feature_count];
        for (group, features) in self.groups.iter().enumerate() {
            for feature in features {
                if let Some(slot) = of_feature.get_mut(*feature) {
                    *slot = group;
                }
            }
        }
        of_feature
    }
}
