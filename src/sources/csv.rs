//! CSV: a header line, one row a line, RFC 4180 quoting. An empty cell is a missing value, quoted or not; a list is a
//! JSON array.

use std::{fs::File, io::BufReader};

use csv::{Reader, StringRecord};

use super::{
    BATCH_BYTES_WANTED,
    layout::{Layout, Wanted},
};
use crate::{
    error::Result,
    features::{ROW_BATCH_ROWS, RowSource, Value, WriteRow},
};

/// An open CSV file.
pub(super) struct CsvSource {
    reader: Reader<BufReader<File>>,
    layout: Layout,
    /// Where each wanted column stands in a record.
    positions: Vec<usize>,
    record: StringRecord,
    rows_read: u64,
}

impl CsvSource {
    /// Reads the header.
    pub(super) fn open(file: File, layout: Layout) -> Result<Self> {
        let mut reader = Reader::from_reader(BufReader::new(file));
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
