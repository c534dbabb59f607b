//! A spool: batches of rows in their order, in memory up to a bound and in a file beyond it.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::RecordBatch;
use arrow_ipc::{reader::StreamReader, writer::StreamWriter};
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::concat::concat_batches;

use crate::{
    error::{Error, Result},
    size::batch_bytes,
};

/// Small batches are put together up to this size before they are written.
const WRITE_BYTES_MAX: usize = 8 << 20;

/// A spool that is being filled.
pub(crate) struct Spool {
    schema: SchemaRef,
    path: PathBuf,
    pending: Vec<RecordBatch>,
    pending_bytes: usize,
    memory_bytes_max: usize,
    row_bytes: usize,
    writer: Option<StreamWriter<BufWriter<File>>>,
    row_count: usize,
}

impl Spool {
    /// An empty spool. Each row counts so many bytes beside its own.
    pub(crate) fn new(
        schema: &SchemaRef,
        path: PathBuf,
        memory_bytes_max: usize,
        row_bytes: usize,
    ) -> Self {
        Spool {
            schema: Arc::clone(schema),
            path,
            pending: Vec::new(),
            pending_bytes: 0,
            memory_bytes_max,
            row_bytes,
            writer: None,
            row_count: 0,
        }
    }

    /// Appends rows.
    ///
    /// # Errors
    /// `FailedPrecondition` where the work folder takes no more.
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.row_count += batch.num_rows();
        self.pending_bytes += batch_bytes(&batch) + self.row_bytes * batch.num_rows();
        self.pending.push(batch);
        if self.pending_bytes > self.memory_bytes_max {
            self.flush()?;
        }
        Ok(())
    }

    /// No more rows come.
    ///
    /// # Errors
    /// As `push`.
    pub(crate) fn finish(mut self) -> Result<Spooled> {
        if self.writer.is_some() {
            self.flush()?;
        }
        let mut file = None;
        if let Some(writer) = self.writer.take() {
            let mut inner = writer
                .into_inner()
                .map_err(|fault| full(&self.path, &fault))?;
            inner
                .flush()
                .map_err(|fault| Error::io(self.path.display(), "written", &fault))?;
            file = Some(self.path);
        }
        Ok(Spooled {
            batches: self.pending,
            file,
            row_count: self.row_count,
        })
    }

    fn flush(&mut self) -> Result<()> {
        let mut together = Vec::new();
        let mut bytes = 0;
        for batch in std::mem::take(&mut self.pending) {
            let more = batch_bytes(&batch);
            if bytes + more > WRITE_BYTES_MAX {
                self.write(&together)?;
                together.clear();
                bytes = 0;
            }
            bytes += more;
            together.push(batch);
        }
        self.pending_bytes = 0;
        self.write(&together)
    }

    fn write(&mut self, batches: &[RecordBatch]) -> Result<()> {
        let batch = match batches {
            [] => return Ok(()),
            [one] => one.clone(),
            several => concat_batches(&self.schema, several)?,
        };
        let writer = match &mut self.writer {
            Some(writer) => writer,
            empty => empty.insert(create(&self.path, &self.schema)?),
        };
        writer
            .write(&batch)
            .map_err(|fault| full(&self.path, &fault))
    }
}

/// A spool that is read. Its file goes with it.
pub(crate) struct Spooled {
    batches: Vec<RecordBatch>,
    file: Option<PathBuf>,
    row_count: usize,
}

impl Spooled {
    /// Whether there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.row_count == 0
    }

    /// Reads it from its beginning.
    ///
    /// # Errors
    /// `FailedPrecondition` where its file cannot be read.
    pub(crate) fn read(&self) -> Result<SpoolReader> {
        let file = match &self.file {
            None => None,
            Some(path) => {
                let file =
                    File::open(path).map_err(|fault| Error::io(path.display(), "read", &fault))?;
                let reader = StreamReader::try_new(BufReader::new(file), None);
                let reader = reader.map_err(|fault| unreadable(path, &fault))?;
                Some((reader, path.clone()))
            }
        };
        Ok(SpoolReader {
            file,
            batches: self.batches.clone().into_iter(),
        })
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if let Some(path) = &self.file {
            // What stays is removed with the folder.
            let _ = fs::remove_file(path);
        }
    }
}

/// The batches of a spool.
pub(crate) struct SpoolReader {
    file: Option<(StreamReader<BufReader<File>>, PathBuf)>,
    batches: std::vec::IntoIter<RecordBatch>,
}

impl SpoolReader {
    /// The next rows; none at the end.
    ///
    /// # Errors
    /// `FailedPrecondition` where the file cannot be read.
    pub(crate) fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        if let Some((reader, path)) = &mut self.file {
            match reader.next() {
                Some(batch) => return batch.map(Some).map_err(|fault| unreadable(path, &fault)),
                None => self.file = None,
            }
        }
        Ok(self.batches.next())
    }
}

fn create(path: &Path, schema: &SchemaRef) -> Result<StreamWriter<BufWriter<File>>> {
    let file = File::create_new(path).map_err(|fault| Error::io(path.display(), "made", &fault))?;
    StreamWriter::try_new(BufWriter::new(file), schema).map_err(|fault| full(path, &fault))
}

fn full(path: &Path, fault: &ArrowError) -> Error {
    let path = path.display();
    Error::failed_precondition(format!(
        "{path}: the work file cannot be written: {fault}; give a work_dir with more room"
    ))
}

fn unreadable(path: &Path, fault: &ArrowError) -> Error {
    let path = path.display();
    Error::failed_precondition(format!("{path}: the work file cannot be read: {fault}"))
}
