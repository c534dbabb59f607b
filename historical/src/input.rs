//! Parquet files that are read: opened and looked at once, then read in batches of some of their columns.
//!
//! Every fault names the file as the plan shows it, and the row where there is one; rows count from 1.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{
            ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
        },
    },
    file::metadata::ColumnChunkMetaData,
};

use crate::{
    convert::CellFault,
    error::{Error, Result},
    plan::FilePlan,
};

/// A Parquet file whose footer was read.
pub(crate) struct Input {
    path: PathBuf,
    shown: String,
    metadata: ArrowReaderMetadata,
}

impl Input {
    /// Opens a file and reads its footer.
    ///
    /// # Errors
    /// `NotFound` or `FailedPrecondition` where it cannot be opened, `InvalidArgument` where it is no Parquet file.
    pub(crate) fn open(plan: &FilePlan) -> Result<Self> {
        let (path, shown) = (plan.path.clone(), plan.shown());
        let file = open_file(&path, &shown)?;
        let metadata = ArrowReaderMetadata::load(&file, Default::default()).map_err(|fault| {
            Error::invalid(&shown, format!("no readable Parquet file: {fault}"))
        })?;
        Ok(Input {
            path,
            shown,
            metadata,
        })
    }

    /// The columns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// How many rows there are.
    pub(crate) fn row_count(&self) -> u64 {
        let rows = self.metadata.metadata().file_metadata().num_rows();
        u64::try_from(rows).unwrap_or_default()
    }

    /// Finds a column.
    ///
    /// # Errors
    /// A sentence without the place: it is missing, or there more than once.
    pub(crate) fn find(&self, column: &str) -> Result<(usize, &DataType), String> {
        let fields = self.schema().fields().iter().enumerate();
        let mut same = fields.filter(|(_, field)| field.name() == column);
        let Some((index, field)) = same.next() else {
            return Err("it is missing".to_owned());
        };
        if same.next().is_some() {
            return Err("it is there more than once".to_owned());
        }
        Ok((index, field.data_type()))
    }

    /// The file and a column of it, for a fault.
    pub(crate) fn column_place(&self, column: &str) -> String {
        format!("{}, column \"{column}\"", self.shown)
    }

    /// What some of the columns are thought to weigh in memory. A writer need not say it exactly.
    pub(crate) fn weight_bytes(&self, columns: &[usize]) -> usize {
        let schema = self.metadata.parquet_schema();
        let mask = ProjectionMask::roots(schema, columns.iter().copied());
        let groups = self.metadata.metadata().row_groups().iter();
        let chunks = groups.flat_map(|group| group.columns().iter().enumerate());
        let wanted = chunks.filter(|(leaf, _)| mask.leaf_included(*leaf));
        wanted
            .map(|(_, chunk)| chunk_bytes(chunk))
            .fold(0, usize::saturating_add)
    }

    /// Reads some of the columns, in the file's order.
    ///
    /// # Errors
    /// As `open`; the file may have gone since.
    pub(crate) fn read(&self, columns: &[usize], batch_rows: usize) -> Result<Batches> {
        let file = open_file(&self.path, &self.shown)?;
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns.iter().copied());
        let reader = builder
            .with_projection(mask)
            .with_batch_size(batch_rows)
            .build()
            .map_err(|fault| damaged(&self.shown, 1, &fault))?;
        Ok(Batches {
            shown: self.shown.clone(),
            reader,
            rows_read: 0,
        })
    }
}

/// The rows of a file, batch by batch.
pub(crate) struct Batches {
    shown: String,
    reader: ParquetRecordBatchReader,
    rows_read: u64,
}

/// Rows, and where they stood.
pub(crate) struct Batch {
    /// The rows.
    pub(crate) rows: RecordBatch,
    /// The number of the first one, counted from 0.
    pub(crate) first_row: u64,
}

impl Batches {
    /// The next rows; none at the end.
    ///
    /// # Errors
    /// `InvalidArgument` where the file is damaged.
    pub(crate) fn next_batch(&mut self) -> Result<Option<Batch>> {
        let first_row = self.rows_read;
        let Some(rows) = self.reader.next() else {
            return Ok(None);
        };
        let rows = rows.map_err(|fault| damaged(&self.shown, first_row + 1, &fault))?;
        self.rows_read += u64::try_from(rows.num_rows()).unwrap_or_default();
        Ok(Some(Batch { rows, first_row }))
    }

    /// A fault of a cell, with its place.
    pub(crate) fn cell_fault(&self, batch: &Batch, column: &str, fault: &CellFault) -> Error {
        let row = batch.first_row + u64::try_from(fault.index).unwrap_or_default() + 1;
        let place = format!("{}, row {row}, column \"{column}\"", self.shown);
        Error::invalid(place, &fault.sentence)
    }
}

impl Batch {
    /// A column that was asked for.
    ///
    /// # Errors
    /// `Internal` where it was not.
    pub(crate) fn column(&self, column: &str) -> Result<&arrow_array::ArrayRef> {
        let found = self.rows.column_by_name(column);
        found.ok_or_else(|| Error::internal(format!("the column \"{column}\" was not read")))
    }
}

fn chunk_bytes(chunk: &ColumnChunkMetaData) -> usize {
    use parquet::basic::Type;
    let values = usize::try_from(chunk.num_values()).unwrap_or_default();
    let width = match chunk.column_type() {
        Type::BOOLEAN => 1,
        Type::INT32 | Type::FLOAT => 4,
        Type::INT64 | Type::DOUBLE => 8,
        Type::INT96 => 12,
        Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY => {
            // Without that statistic only the encoded size is known, which a dictionary makes smaller.
            let known = chunk.unencoded_byte_array_data_bytes();
            let bytes = known.unwrap_or_else(|| chunk.uncompressed_size().saturating_mul(2));
            let bytes = usize::try_from(bytes).unwrap_or_default();
            return values.saturating_mul(8).saturating_add(bytes);
        }
    };
    values.saturating_mul(width)
}

fn open_file(path: &Path, shown: &str) -> Result<File> {
    // Asked before it is opened: opening a pipe waits for whoever writes into it.
    let metadata = fs::metadata(path).map_err(|fault| Error::io(shown, "read", &fault))?;
    if !metadata.is_file() {
        let message = format!("{shown} is no regular file");
        return Err(Error::failed_precondition(message));
    }
    File::open(path).map_err(|fault| Error::io(shown, "read", &fault))
}

fn damaged(shown: &str, row: u64, fault: &dyn std::error::Error) -> Error {
    let fault = format!("the file is damaged at row {row} or after it: {fault}");
    Error::invalid(shown, fault)
}
