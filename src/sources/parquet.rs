//! Parquet: only the columns that the view wants are read.

use std::fs::File;

use arrow_schema::SchemaRef;
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    },
    file::metadata::{ParquetMetaData, RowGroupMetaData},
};

use super::{
    BATCH_BYTES_WANTED,
    arrow::{CellFault, column_values, fits},
    layout::Layout,
};
use crate::{
    error::{Error, Result},
    features::{ROW_BATCH_ROWS, RowSource, WriteRow},
};

/// An open Parquet file.
pub(super) struct ParquetSource {
    reader: ParquetRecordBatchReader,
    layout: Layout,
    row_count: Option<u64>,
    rows_read: u64,
}

impl ParquetSource {
    /// Reads the file's footer and checks its schema.
    pub(super) fn open(file: File, layout: Layout) -> Result<Self> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|fault| {
            layout
                .fault(format!("no readable Parquet file: {fault}"))
                .with_source(fault)
        })?;
        let indices = find_columns(builder.schema(), &layout)?;
        let rows = builder.metadata().file_metadata().num_rows();
        let batch_rows = batch_rows(builder.metadata());
        let mask = ProjectionMask::roots(builder.parquet_schema(), indices);
        let reader = builder
            .with_projection(mask)
            .with_batch_size(batch_rows)
            .build()
            .map_err(|fault| damaged(&layout, 1, fault))?;
        Ok(ParquetSource {
            reader,
            layout,
            row_count: u64::try_from(rows).ok(),
            rows_read: 0,
        })
    }
}

/// Rows to read at once: fewer where they are wide, as rows with embeddings are.
fn batch_rows(metadata: &ParquetMetaData) -> usize {
    let bytes = |group: &RowGroupMetaData| usize::try_from(group.total_byte_size()).ok();
    let total: usize = metadata.row_groups().iter().filter_map(bytes).sum();
    let rows = usize::try_from(metadata.file_metadata().num_rows()).unwrap_or_default();
    let row_bytes = total / rows.max(1);
    (BATCH_BYTES_WANTED / row_bytes.max(1)).clamp(1, ROW_BATCH_ROWS)
}

fn find_columns(schema: &SchemaRef, layout: &Layout) -> Result<Vec<usize>> {
    let mut indices = Vec::new();
    let mut faults = Vec::new();
    for wanted in layout.columns() {
        let same_name = schema
            .fields()
            .iter()
            .filter(|field| *field.name() == wanted.name);
        let fault = match schema.column_with_name(&wanted.name) {
            Some(_) if same_name.count() > 1 => "it is there more than once".to_owned(),
            Some((index, field)) if fits(field.data_type(), wanted.value_type) => {
                indices.push(index);
                continue;
            }
            Some((_, field)) => format!(
                "expected a {}, found {}, which cannot become one without loss; cast the column before",
                wanted.value_type,
                field.data_type()
            ),
            None => format!("it is missing; expected a {}", wanted.value_type),
        };
        faults.push((wanted.name.clone(), fault));
    }
    layout.column_faults(faults)?;
    Ok(indices)
}

fn damaged(
    layout: &Layout,
    row: u64,
    fault: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    layout
        .fault(format!(
            "the file is damaged at row {row} or after it: {fault}"
        ))
        .with_source(fault)
}

impl RowSource for ParquetSource {
    fn row_count(&self) -> Option<u64> {
        self.row_count
    }

    fn next_batch(&mut self) -> Result<Option<Vec<WriteRow>>> {
        let first_row = self.rows_read + 1;
        let batch = match self.reader.next() {
            None => return Ok(None),
            Some(batch) => batch.map_err(|fault| damaged(&self.layout, first_row, fault))?,
        };
        let mut columns = Vec::with_capacity(self.layout.columns().len());
        for wanted in self.layout.columns() {
            let array = batch
                .column_by_name(&wanted.name)
                .ok_or_else(|| Error::internal(format!("the column {} went away", wanted.name)))?;
            let values = column_values(array.as_ref(), wanted.value_type).map_err(
                |CellFault { index, sentence }| {
                    let row = first_row + u64::try_from(index).unwrap_or_default();
                    self.layout.cell_fault(row, &wanted.name, sentence)
                },
            )?;
            columns.push(values);
        }
        self.rows_read += u64::try_from(batch.num_rows()).unwrap_or_default();
        self.layout.rows(first_row, columns).map(Some)
    }
}
