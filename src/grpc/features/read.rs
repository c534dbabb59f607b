//! GetOnlineFeatures: what is asked for, of whom, how fresh, in which form.

use std::{sync::Arc, time::Duration};

use prost_types::Struct;

use super::answer;
use crate::{
    catalog::Catalog,
    error::{Error, Result},
    features::{
        EntityKey, FeatureSelection, Freshness, KeyColumn, SelectedFeatures, check_values,
        column_keys, entity_keys, read_features,
    },
    grpc::{
        FeatureApi,
        column_reader::{Blanks, ColumnReader},
        convert::{check_count, moment, raw_rows, wire_value},
        pb::{self, AnswerFormat},
    },
};

/// What a `google.protobuf.Duration` may hold: some 10,000 years.
const SECONDS_MAX: u64 = 315_576_000_000;

impl FeatureApi {
    pub(in crate::grpc) async fn read(
        &self,
        mut request: pb::GetOnlineFeaturesRequest,
    ) -> Result<pb::GetOnlineFeaturesResponse> {
        let format = answer_format(request.format)?;
        let as_of = moment("asOf", request.as_of)?;
        let freshness = Freshness {
            max_age: request.max_age.map(max_age).transpose()?,
            ..as_of.map_or_else(Freshness::now, Freshness::as_of)
        };
        let catalog = self.catalog.snapshot();
        let SelectedFeatures { selection, service } =
            self.selected_features(&catalog, &request.features, &request.feature_service)?;
        // Only rows tell again whose they are.
        let mut named = if format == AnswerFormat::Rows {
            request.entities.clone()
        } else {
            Vec::new()
        };
        let keys = if request.entity_columns.is_empty() {
            self.keys_of_objects(&selection, request.entities)?
        } else {
            let entities = std::mem::take(&mut request.entities);
            let columns = self.key_columns(&selection, &entities, request.entity_columns)?;
            if format == AnswerFormat::Rows {
                named = objects(&columns);
            }
            column_keys(&selection, columns)?
        };
        let store = self.store.as_ref();
        let bytes_max = self.limits.answer_bytes_max;
        let table = read_features(store, selection, &keys, freshness, bytes_max).await?;
        let mut response = pb::GetOnlineFeaturesResponse {
            feature_service: service,
            ..pb::GetOnlineFeaturesResponse::default()
        };
        match format {
            AnswerFormat::Rows => response.rows = answer::rows(named, table),
            AnswerFormat::Packed => response.packed_columns = answer::packed(table)?,
            AnswerFormat::Unspecified | AnswerFormat::Columns => {
                response.columns = answer::columns(table);
            }
        }
        Ok(response)
    }

    /// The features that a request names, itself or by a feature service.
    pub(super) fn selected_features(
        &self,
        catalog: &Arc<Catalog>,
        features: &[String],
        feature_service: &str,
    ) -> Result<SelectedFeatures> {
        let max = self.limits.features_max;
        let by_name = feature_service.is_empty();
        if by_name {
            check_count("features", features.len(), max)?;
        }
        let selections = &self.selections;
        let selected = selections.select(catalog, features, feature_service)?;
        if !by_name {
            check_count("featureService", selected.selection.names.len(), max)?;
        }
        Ok(selected)
    }

    fn keys_of_objects(
        &self,
        selection: &FeatureSelection,
        entities: Vec<Struct>,
    ) -> Result<Vec<Vec<EntityKey>>> {
        check_count("entities", entities.len(), self.limits.entities_max)?;
        self.check_values("entities", entities.len(), selection)?;
        entity_keys(selection, &raw_rows(entities))
    }

    fn key_columns(
        &self,
        selection: &FeatureSelection,
        entities: &[Struct],
        columns: Vec<pb::TypedColumn>,
    ) -> Result<Vec<KeyColumn>> {
        const FIELD: &str = "entityColumns";
        if !entities.is_empty() {
            let fault = "come instead of entities, not beside them";
            return Err(Error::invalid(FIELD, fault));
        }
        let views = selection.views.iter();
        let keys_max = views.map(|selected| selected.view.join_keys.len()).sum();
        let mut reader = ColumnReader::new(FIELD, &columns, keys_max, self.limits.entities_max)?;
        self.check_values(FIELD, reader.row_count(), selection)?;
        let mut keys = Vec::with_capacity(columns.len());
        for (index, mut column) in columns.into_iter().enumerate() {
            if reader.is_full() {
                break;
            }
            let name = std::mem::take(&mut column.name);
            let Some(join_key) = selection.join_key(&name) else {
                reader.unknown(index, &name, "is no join key of the views asked for");
                continue;
            };
            let value_type = join_key.value_type;
            let cells = reader.read(index, column, value_type, Blanks::Refused);
            keys.extend(cells.map(|cells| KeyColumn {
                place: reader.place(index),
                name,
                value_type,
                values: cells.into_iter().flatten().collect(),
            }));
        }
        reader.finish(keys)
    }

    fn check_values(&self, field: &str, rows: usize, selection: &FeatureSelection) -> Result<()> {
        let columns = selection.references.len();
        check_values(field, rows, columns, self.limits.values_max)
    }
}

fn answer_format(number: i32) -> Result<AnswerFormat> {
    AnswerFormat::try_from(number).map_err(|_| {
        Error::invalid(
            "format",
            format!("there is no format of the number {number}"),
        )
    })
}

fn max_age(given: prost_types::Duration) -> Result<Duration> {
    let fault = || {
        Error::invalid(
            "maxAge",
            "is no length of time of 0 to 315576000000 seconds",
        )
    };
    let seconds = u64::try_from(given.seconds).map_err(|_| fault())?;
    let nanos = u32::try_from(given.nanos).map_err(|_| fault())?;
    if seconds > SECONDS_MAX || nanos >= 1_000_000_000 {
        return Err(fault());
    }
    Ok(Duration::new(seconds, nanos))
}

/// The entities of key columns as a caller could have named them.
fn objects(columns: &[KeyColumn]) -> Vec<Struct> {
    let row_count = columns.first().map_or(0, |column| column.values.len());
    let mut objects = vec![Struct::default(); row_count];
    for column in columns {
        for (object, value) in objects.iter_mut().zip(&column.values) {
            let value = wire_value(value.clone());
            object.fields.insert(column.name.clone(), value);
        }
    }
    objects
}
