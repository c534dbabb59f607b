//! WriteFeatures and DeleteEntity.

use std::sync::Arc;

use crate::{
    catalog::FeatureView,
    error::{Error, Result},
    features::{
        Timestamp, WriteColumn, WriteRow, WriteTarget, check_values, column_rows, key_of,
        typed_rows,
    },
    grpc::{
        FeatureApi,
        column_reader::{Blanks, ColumnReader},
        convert::{check_count, raw_row, raw_rows, wire_counts},
        pb,
    },
};

impl FeatureApi {
    pub(in crate::grpc) async fn write(
        &self,
        request: pb::WriteFeaturesRequest,
    ) -> Result<pb::WriteFeaturesResponse> {
        let catalog = self.catalog.snapshot();
        let view = catalog.view(&request.view)?;
        view.check_writable()?;
        let rows = self.rows_to_write(view, request)?;
        let counts = self.store.write(view, rows).await?;
        Ok(wire_counts(counts))
    }

    fn rows_to_write(
        &self,
        view: &FeatureView,
        request: pb::WriteFeaturesRequest,
    ) -> Result<Vec<WriteRow>> {
        let now = Timestamp::now();
        if request.columns.is_empty() {
            let count = request.rows.len();
            check_count("rows", count, self.limits.entities_max)?;
            self.check_written("rows", count, view)?;
            return typed_rows(view, &raw_rows(request.rows), now);
        }
        if !request.rows.is_empty() {
            return Err(Error::invalid(
                "columns",
                "come instead of rows, not beside them",
            ));
        }
        // The join keys, the features and both times.
        let columns_max = view.join_keys.len() + view.features.len() + 2;
        let rows_max = self.limits.entities_max;
        let mut reader = ColumnReader::new("columns", &request.columns, columns_max, rows_max)?;
        let row_count = reader.row_count();
        self.check_written("columns", row_count, view)?;
        let mut columns = Vec::with_capacity(request.columns.len());
        for (index, column) in request.columns.into_iter().enumerate() {
            if reader.is_full() {
                break;
            }
            let Some(target) = WriteTarget::find(view, &column.name) else {
                let fault = format!("is nothing that the feature view \"{}\" has", view.name);
                reader.unknown(index, &column.name, fault);
                continue;
            };
            let blanks = match target {
                WriteTarget::Key(_) => Blanks::Refused,
                WriteTarget::Feature(_) | WriteTarget::EventTimestamp | WriteTarget::CreatedAt => {
                    Blanks::Allowed
                }
            };
            let cells = reader.read(index, column, target.value_type(view), blanks);
            columns.extend(cells.map(|cells| WriteColumn {
                place: reader.place(index),
                target,
                cells,
            }));
        }
        let columns = reader.finish(columns)?;
        column_rows(view, row_count, columns, now)
    }

    /// A row takes the room of all features of its view, however few it names.
    fn check_written(&self, field: &str, rows: usize, view: &FeatureView) -> Result<()> {
        check_values(field, rows, view.features.len(), self.limits.values_max)
    }

    pub(in crate::grpc) async fn delete(
        &self,
        request: pb::DeleteEntityRequest,
    ) -> Result<pb::DeleteEntityResponse> {
        let catalog = self.catalog.snapshot();
        let entity = catalog.entity(&request.entity)?;
        let key = key_of(entity, &raw_row(request.key.unwrap_or_default()), "key")?;
        let views = catalog.views.values();
        let of_entity = views.filter(|view| view.entity == entity.name);
        let (skipped, own): (Vec<_>, Vec<_>) = of_entity
            .map(Arc::clone)
            .partition(|view| view.table.is_some());
        let deleted = if own.is_empty() {
            0
        } else {
            self.store.delete(&own, &key).await?
        };
        Ok(pb::DeleteEntityResponse {
            views: deleted,
            skipped_views: skipped.iter().map(|view| view.name.clone()).collect(),
        })
    }
}
