//! CSV: a header line, one row a line, RFC 4180 quoting. An empty cell is a missing value, quoted or not; a list is a
//! JSON array.

use std::{
    fs::File,
    io::{self, Read},
};

use csv::{Reader, ReaderBuilder, StringRecord};

use super::{
    BATCH_BYTES_WANTED,
    layout::{Layout, Wanted},
};
use crate::{
    error::Result,
    features::{ROW_BATCH_ROWS, RowSource, Value, WriteRow},
};

/// Bytes of one record. A quote that nobody closes would take all the rest of a file into one.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 16;

/// A file of which so many bytes may be read for one record.
struct Bounded<R> {
    inner: R,
    left: usize,
    record_bytes_max: usize,
}

impl<R: Read> Bounded<R> {
    fn new(inner: R, record_bytes_max: usize) -> Self {
        Bounded {
            inner,
            left: record_bytes_max,
            record_bytes_max,
        }
    }

    /// The next record begins.
    fn start_record(&mut self) {
        self.left = self.record_bytes_max;
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(self.left);
        if wanted == 0 && !buffer.is_empty() {
            return Err(io::Error::other(format!(
                "it is longer than {} bytes; a quote that is not closed takes in all that follows",
                self.record_bytes_max
            )));
        }
        let read = self
            .inner
            .read(buffer.get_mut(..wanted).unwrap_or_default())?;
        self.left = self.left.saturating_sub(read);
        Ok(read)
    }
}

/// An open CSV file.
pub(super) struct CsvSource {
    reader: Reader<Bounded<File>>,
    layout: Layout,
    /// Where each wanted column stands in a record.
    positions: Vec<usize>,
    record: StringRecord,
    rows_read: u64,
}

impl CsvSource {
    /// Reads the header.
    pub(super) fn open(file: File, layout: Layout) -> Result<Self> {
        CsvSource::bounded(Bounded::new(file, RECORD_BYTES_MAX), layout)
    }

    fn bounded(file: Bounded<File>, layout: Layout) -> Result<Self> {
        let mut reader = ReaderBuilder::new()
            .buffer_capacity(READ_BYTES)
            .from_reader(file);
        let header = reader
            .headers()
            .map_err(|fault| layout.fault(format!("the header cannot be read: {fault}")))?;
        let mut positions = Vec::new();
        let mut faults = Vec::new();
        for wanted in layout.columns() {
            let mut found = header
                .iter()
                .enumerate()
                .filter(|(_, name)| *name == wanted.name);
            let fault = match (found.next(), found.next()) {
                (Some((position, _)), None) => {
                    positions.push(position);
                    continue;
                }
                (None, _) => format!("it is missing; expected a {}", wanted.value_type),
                (Some(_), Some(_)) => "it is there more than once".to_owned(),
            };
            faults.push((wanted.name.clone(), fault));
        }
        layout.column_faults(faults)?;
        Ok(CsvSource {
            reader,
            layout,
            positions,
            record: StringRecord::new(),
            rows_read: 0,
        })
    }

    /// Reads a row into the columns; says whether there was one.
    fn read_row(&mut self, columns: &mut [Vec<Value>]) -> Result<bool> {
        let row = self.rows_read + 1;
        self.reader.get_mut().start_record();
        let is_there = self.reader.read_record(&mut self.record).map_err(|fault| {
            self.layout
                .fault(format!("row {row} cannot be read: {fault}"))
        })?;
        if !is_there {
            return Ok(false);
        }
        self.rows_read = row;
        let places = self.layout.columns().iter().zip(&self.positions);
        for ((wanted, position), column) in places.zip(columns) {
            let text = self.record.get(*position).unwrap_or_default();
            let value = parse(text, wanted).map_err(|fault| {
                let line = self.record.position().map_or(0, csv::Position::line);
                let fault = format!("{fault} (line {line})");
                self.layout.cell_fault(row, &wanted.name, fault)
            })?;
            column.push(value);
        }
        Ok(true)
    }
}

fn parse(text: &str, wanted: &Wanted) -> std::result::Result<Value, String> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    Value::parse(text, wanted.value_type)
}

impl RowSource for CsvSource {
    fn row_count(&self) -> Option<u64> {
        None
    }

    fn next_batch(&mut self) -> Result<Option<Vec<WriteRow>>> {
        let first_row = self.rows_read + 1;
        let mut columns = vec![Vec::new(); self.positions.len()];
        let (mut rows, mut bytes) = (0, 0);
        while rows < ROW_BATCH_ROWS && bytes < BATCH_BYTES_WANTED && self.read_row(&mut columns)? {
            rows += 1;
            bytes += self.record.as_slice().len();
        }
        if rows == 0 {
            return Ok(None);
        }
        self.layout.rows(first_row, columns).map(Some)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fmt::Write as _, io::Write as _};

    use super::*;
    use crate::{
        catalog::{Definitions, FeatureView},
        features::Timestamp,
    };

    const BOUND: usize = 100_000;

    fn view() -> FeatureView {
        let text = r#"
            project = "demo"
            [[entities]]
            name = "thing"
            join_keys = [{ name = "id", type = "int64" }]
            [[feature_views]]
            name = "texts"
            entity = "thing"
            features = [{ name = "x", type = "string" }]
        "#;
        let definitions = Definitions::parse(text).unwrap();
        FeatureView::clone(definitions.views.first().unwrap())
    }

    /// How many rows are read of a text.
    fn rows_of(text: &str) -> Result<usize> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let layout = Layout::new("a.csv".to_owned(), &view(), Timestamp::EPOCH);
        let file = Bounded::new(file.reopen().unwrap(), BOUND);
        let mut source = CsvSource::bounded(file, layout)?;
        let mut count = 0;
        while let Some(rows) = source.next_batch()? {
            count += rows.len();
        }
        Ok(count)
    }

    #[test]
    fn a_quote_that_is_not_closed_is_told_with_its_row_and_not_kept() {
        let text = |open_row: usize| {
            let mut text = "id,event_timestamp,x\n".to_owned();
            for row in 1..=5_000 {
                let quote = if row == open_row { "\"" } else { "" };
                let filler = "y".repeat(40);
                writeln!(text, "{row},2026-11-21T00:00:00Z,{quote}{filler}").unwrap();
            }
            text
        };
        assert!(text(0).len() > 3 * BOUND);
        assert_eq!(rows_of(&text(0)).unwrap(), 5_000);
        let fault = rows_of(&text(2)).unwrap_err();
        assert!(fault.message().contains("row 2 cannot be read"), "{fault}");
        assert!(fault.message().contains("a quote"), "{fault}");
    }
}
