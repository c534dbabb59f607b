//! Predictions of a span of time, a row each.

use std::{fs::Permissions, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use parquet::{arrow::ArrowWriter, errors::ParquetError, file::properties::WriterProperties};
use tempfile::NamedTempFile;
use uuid::Uuid;

use super::columns::{Column, columns_of, columns_of_model};
use crate::{
    error::{Error, Result},
    inference::{LedgerEntry, LedgerSpan, LedgerStore},
};

/// Predictions that are asked for, and written, at once.
const PAGE_ROWS: usize = 5_000;

/// Rows of a group of the file, which is kept in memory until it is full.
const GROUP_ROWS_MAX: usize = 65_536;

/// Whatever the umask leaves of it, as of any other file that a command writes.
const FILE_MODE: u32 = 0o666;

/// Writes the predictions of a span to a Parquet file; returns how many they are. `progress` is told how many so far. Needs
/// as much memory as a group of rows, whatever the span. Blocks while it writes.
///
/// # Errors
/// `NotFound` for a model that has never predicted; `FailedPrecondition` where the file cannot be written, or where what is
/// being read is dropped for its age; `Unavailable` where the database is away. There is no file then, and one that was there before stays.
pub async fn export_predictions(
    store: &dyn LedgerStore,
    mut span: LedgerSpan,
    out: &Path,
    progress: impl Fn(u64),
) -> Result<u64> {
    let columns = match &span.model {
        None => columns_of(),
        Some(model) => {
            let versions = store.recorded_versions(model).await?;
            if versions.is_empty() {
                return Err(Error::not_found(format!(
                    "the ledger has no predictions of a model \"{model}\""
                )));
            }
            columns_of_model(&versions)
        }
    };
    let mut file = PredictionFile::create(out, columns)?;
    let mut last = None;
    loop {
        let page = store.predictions(&span, PAGE_ROWS).await?;
        check_there(store, last).await?;
        last = page.entries.last().map(|entry| entry.id).or(last);
        file.write(&page.entries)?;
        progress(file.rows);
        match page.next {
            Some(next) => span.first = next,
            None => return file.finish(out),
        }
    }
}

/// Notices that retention has overtaken the reading. It drops the oldest first: as long as the last prediction of the pages
/// before is there, so are all that follow it.
async fn check_there(store: &dyn LedgerStore, last: Option<Uuid>) -> Result<()> {
    let Some(last) = last else {
        return Ok(());
    };
    match store.prediction(last).await? {
        Some(_) => Ok(()),
        None => Err(Error::failed_precondition(
            "predictions of the span were dropped for their age while they were read (ledger.retention_days); export again, \
             from a later time on",
        )),
    }
}

/// A file that is being written, beside its place.
struct PredictionFile {
    columns: Vec<Column>,
    schema: SchemaRef,
    writer: ArrowWriter<NamedTempFile>,
    shown: String,
    rows: u64,
}

impl PredictionFile {
    fn create(out: &Path, columns: Vec<Column>) -> Result<PredictionFile> {
        let shown = out.display().to_string();
        let folder = out.parent().filter(|folder| *folder != Path::new(""));
        let file = tempfile::Builder::new()
            .prefix(".ferrocast-")
            .suffix(".partial")
            .permissions(Permissions::from_mode(FILE_MODE))
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .map_err(|fault| unwritable(&shown, fault))?;
        let fields: Vec<_> = columns.iter().map(Column::field).collect();
        let schema = Arc::new(Schema::new(fields));
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(GROUP_ROWS_MAX))
            .build();
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties))
            .map_err(|fault| broken(&shown, fault))?;
        Ok(PredictionFile {
            columns,
            schema,
            writer,
            shown,
            rows: 0,
        })
    }

    fn write(&mut self, entries: &[LedgerEntry]) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let columns = self.columns.iter().map(|column| column.array(entries));
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns.collect())
            .map_err(|fault| Error::internal("rows that Arrow cannot hold").with_source(fault))?;
        self.rows += u64::try_from(entries.len()).unwrap_or(u64::MAX);
        self.writer
            .write(&batch)
            .map_err(|fault| broken(&self.shown, fault))
    }

    fn finish(self, out: &Path) -> Result<u64> {
        let shown = self.shown;
        let file = self.writer.into_inner();
        let file = file.map_err(|fault| broken(&shown, fault))?;
        let synced = file.as_file().sync_all();
        synced.map_err(|fault| unwritable(&shown, fault))?;
        file.persist(out)
            .map_err(|fault| unwritable(&shown, fault.error))?;
        Ok(self.rows)
    }
}

fn unwritable(shown: &str, fault: std::io::Error) -> Error {
    Error::failed_precondition(format!("{shown}: it cannot be written: {fault}")).with_source(fault)
}

fn broken(shown: &str, fault: ParquetError) -> Error {
    Error::failed_precondition(format!("{shown}: it cannot be written: {fault}")).with_source(fault)
}
