//! Where the training set goes: a Parquet file that appears when it is whole, or an Arrow stream on stdout.

use std::{
    fs::File,
    io::{self, BufWriter, Stdout, Write},
    path::{Path, PathBuf},
};

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::SchemaRef;
use parquet::{
    arrow::ArrowWriter, basic::Compression, errors::ParquetError,
    file::properties::WriterProperties,
};

use crate::{
    error::{Error, Result},
    plan::OutPlan,
    work::Unfinished,
};

/// Rows of a row group, where their size allows so many.
const ROW_GROUP_ROWS_MAX: usize = 1 << 20;

/// An output that is being written.
pub(crate) enum Output {
    /// A Parquet file.
    File(Box<ParquetOutput>),
    /// A stream on stdout.
    Stream(Box<StreamWriter<BufWriter<Stdout>>>),
}

/// A Parquet file, half done.
pub(crate) struct ParquetOutput {
    writer: ArrowWriter<BufWriter<File>>,
    unfinished: Unfinished,
    target: PathBuf,
    row_group_bytes_max: usize,
}

impl Output {
    /// Begins an output.
    ///
    /// # Errors
    /// `NotFound` or `FailedPrecondition` where it cannot be made; `InvalidArgument` where a column of the spine is of a
    /// type that it cannot hold.
    pub(crate) fn create(
        plan: &OutPlan,
        schema: &SchemaRef,
        row_group_bytes_max: usize,
    ) -> Result<Self> {
        match plan.file() {
            None => {
                let out = BufWriter::new(io::stdout());
                let writer = StreamWriter::try_new(out, schema).map_err(|fault| closed(&fault))?;
                Ok(Output::Stream(Box::new(writer)))
            }
            Some(path) => {
                let (unfinished, open) = Unfinished::create(path)?;
                let properties = WriterProperties::builder()
                    .set_compression(Compression::SNAPPY)
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
                    .build();
                let out = BufWriter::new(open);
                let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties));
                Ok(Output::File(Box::new(ParquetOutput {
                    writer: writer.map_err(|fault| unwritable(path, &fault))?,
                    unfinished,
                    target: path.to_owned(),
                    row_group_bytes_max,
                })))
            }
        }
    }

    /// Appends rows.
    ///
    /// # Errors
    /// `FailedPrecondition` where the disk or the reader of stdout takes no more.
    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        match self {
            Output::Stream(writer) => writer.write(rows).map_err(|fault| closed(&fault)),
            Output::File(out) => out.write(rows),
        }
    }

    /// Makes the output whole.
    ///
    /// # Errors
    /// As `write`.
    pub(crate) fn finish(self) -> Result<()> {
        match self {
            Output::Stream(writer) => {
                let mut out = writer.into_inner().map_err(|fault| closed(&fault))?;
                out.flush().map_err(|fault| closed(&fault))
            }
            Output::File(out) => out.finish(),
        }
    }
}

impl ParquetOutput {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let unwritable = |fault| unwritable(&self.target, &fault);
        self.writer.write(rows).map_err(unwritable)?;
        if self.writer.memory_size() > self.row_group_bytes_max {
            self.writer.flush().map_err(unwritable)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let unwritable = |fault| unwritable(&self.target, &fault);
        let io = |fault: io::Error| Error::io(self.target.display(), "written", &fault);
        let out = self.writer.into_inner().map_err(unwritable)?;
        let file = out.into_inner().map_err(|fault| io(fault.into_error()))?;
        // Before it has its name: after a crash there is no file, or a whole one.
        file.sync_all().map_err(io)?;
        self.unfinished.finish(&self.target)
    }
}

fn unwritable(path: &Path, fault: &ParquetError) -> Error {
    let path = path.display();
    Error::failed_precondition(format!("{path}: it cannot be written: {fault}"))
}

fn closed(fault: &dyn std::error::Error) -> Error {
    Error::failed_precondition(format!("stdout: it cannot be written: {fault}"))
}
