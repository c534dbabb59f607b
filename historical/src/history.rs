//! A view's history: its files checked, then read into the layout that is joined.

use std::{collections::BTreeSet, sync::Arc};

use arrow_array::{
    Array, ArrayRef, Int64Array, LargeBinaryArray, RecordBatch,
    builder::{ListBuilder, UInt32Builder},
    cast::AsArray,
    new_null_array,
};
use arrow_schema::{DataType, SchemaRef};

use crate::{
    budget::{Budget, HISTORY_ROW_BYTES},
    convert::{CellFault, convert, unpacked},
    error::{Error, Result},
    input::{Batch, Batches, Input},
    keys::{KeyColumn, key_bytes},
    plan::{FilePlan, History, ViewPlan},
    times::micros,
    value_type::{Scalar, ValueType},
    view::{history_schema, missing_type},
};

/// The names of the features that a row did not give.
const MISSING: &str = "_missing";

/// From here on files are numbered that have no column for the time of writing: each before every time that a column can
/// hold, and after the files before it.
const UNDATED_MIN: i64 = i64::MIN;

/// The files of a view, which were looked at.
pub(crate) struct HistoryFiles<'a> {
    view: &'a ViewPlan,
    schema: SchemaRef,
    files: Vec<HistoryFile<'a>>,
}

struct HistoryFile<'a> {
    layout: &'a History,
    file: &'a FilePlan,
    row_count: u64,
    weight_bytes: usize,
}

impl<'a> HistoryFiles<'a> {
    /// Looks at every file of a view.
    ///
    /// # Errors
    /// As `Input::open`; `InvalidArgument` with every column at fault.
    pub(crate) fn check(view: &'a ViewPlan) -> Result<Self> {
        let mut files = Vec::new();
        for layout in &view.history {
            for file in &layout.files {
                let input = Input::open(file)?;
                let columns = find_columns(&input, view, layout)?;
                files.push(HistoryFile {
                    layout,
                    file,
                    row_count: input.row_count(),
                    weight_bytes: input.weight_bytes(&columns),
                });
            }
        }
        Ok(HistoryFiles {
            view,
            schema: history_schema(view),
            files,
        })
    }

    /// The layout of the rows.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows there are.
    pub(crate) fn row_count(&self) -> u64 {
        self.files.iter().map(|file| file.row_count).sum()
    }

    /// What the rows are thought to take while they are joined.
    pub(crate) fn joined_bytes(&self) -> usize {
        let rows = usize::try_from(self.row_count()).unwrap_or(usize::MAX);
        let weights = self.files.iter().map(|file| file.weight_bytes);
        weights
            .fold(0, usize::saturating_add)
            .saturating_add(rows.saturating_mul(HISTORY_ROW_BYTES))
    }

    /// Reads all rows, in the order of the files, and says which features some rows did not give.
    ///
    /// # Errors
    /// `InvalidArgument` with file, row and column; whatever `take` returns.
    pub(crate) fn read(
        &self,
        budget: &Budget,
        mut take: impl FnMut(RecordBatch, &LargeBinaryArray) -> Result<()>,
    ) -> Result<BTreeSet<usize>> {
        let mut partial = BTreeSet::new();
        for (file, undated) in self.files.iter().zip(UNDATED_MIN..) {
            let input = Input::open(file.file)?;
            let columns = find_columns(&input, self.view, file.layout)?;
            let rows = usize::try_from(file.row_count).unwrap_or(usize::MAX).max(1);
            let mut batches = input.read(&columns, budget.batch_rows(file.weight_bytes / rows))?;
            while let Some(batch) = batches.next_batch()? {
                let reader = RowReader {
                    files: self,
                    layout: file.layout,
                    undated,
                    batches: &batches,
                    batch: &batch,
                };
                let (rows, keys) = reader.rows(&mut partial)?;
                take(rows, &keys)?;
            }
        }
        Ok(partial)
    }
}

/// The columns of a file that the join reads.
fn find_columns(input: &Input, view: &ViewPlan, layout: &History) -> Result<Vec<usize>> {
    let mut columns = BTreeSet::new();
    let mut faults = Vec::new();
    for (name, wanted) in wanted_columns(view, layout) {
        match find_column(input, name, wanted) {
            Ok(index) => {
                columns.insert(index);
            }
            Err(fault) => faults.push(format!("{}: {fault}", input.column_place(name))),
        }
    }
    if input.schema().column_with_name(MISSING).is_some() {
        match find_column(input, MISSING, ValueType::List(Scalar::String)) {
            Ok(index) => {
                columns.insert(index);
            }
            Err(fault) => faults.push(format!(
                "{}, the features that a row did not give: {fault}",
                input.column_place(MISSING)
            )),
        }
    }
    if faults.is_empty() {
        Ok(columns.into_iter().collect())
    } else {
        Err(Error::faults(&faults))
    }
}

/// Name and type of every column that the file has to have.
fn wanted_columns<'a>(
    view: &'a ViewPlan,
    layout: &'a History,
) -> impl Iterator<Item = (&'a str, ValueType)> {
    let keys = view.join_keys.iter();
    let keys = keys.map(|key| (key.name.as_str(), ValueType::One(key.scalar())));
    let created = layout.created_timestamp_field.as_deref();
    let times = [Some(layout.timestamp_field.as_str()), created];
    let times = times.into_iter().flatten();
    let times = times.map(|name| (name, ValueType::One(Scalar::Timestamp)));
    let features = view.features.iter();
    let features = features.map(|feature| (feature.name.as_str(), feature.value_type));
    keys.chain(times).chain(features)
}

fn find_column(input: &Input, name: &str, wanted: ValueType) -> Result<usize, String> {
    match input.find(name) {
        Ok((index, found)) if wanted.accepts(found) => Ok(index),
        Ok((_, found)) => Err(format!(
            "expected a {wanted}, found {found}, which cannot become one without loss; cast the column before"
        )),
        Err(fault) => Err(format!("{fault}; expected a {wanted}")),
    }
}

/// One batch of a file, on its way into the layout that is joined.
struct RowReader<'a> {
    files: &'a HistoryFiles<'a>,
    layout: &'a History,
    /// When its rows were written, where no column says it.
    undated: i64,
    batches: &'a Batches,
    batch: &'a Batch,
}

impl RowReader<'_> {
    fn rows(&self, partial: &mut BTreeSet<usize>) -> Result<(RecordBatch, Arc<LargeBinaryArray>)> {
        let view = self.files.view;
        let row_count = self.batch.rows.num_rows();
        let mut keys = Vec::new();
        for key in &view.join_keys {
            let typed = self.cells(&key.name, |array| KeyColumn::new(array, key.scalar()))?;
            self.needs_values(&key.name, typed.first_null())?;
            keys.push(typed);
        }
        let keys = key_bytes(&keys, row_count);
        let times = self.times(&self.layout.timestamp_field)?;
        let created = match &self.layout.created_timestamp_field {
            Some(column) => self.times(column)?,
            None => Int64Array::from_value(self.undated, row_count),
        };
        let missing = self.missing(partial)?;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::clone(&keys) as ArrayRef,
            Arc::new(times),
            Arc::new(created),
            missing,
        ];
        for feature in &view.features {
            let typed = |array: &ArrayRef| convert(array, feature.value_type);
            columns.push(self.cells(&feature.name, typed)?);
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.files.schema), columns)?;
        Ok((rows, keys))
    }

    fn cells<T>(
        &self,
        column: &str,
        convert: impl FnOnce(&ArrayRef) -> Result<T, CellFault>,
    ) -> Result<T> {
        let array = self.batch.column(column)?;
        convert(array).map_err(|fault| self.batches.cell_fault(self.batch, column, &fault))
    }

    fn times(&self, column: &str) -> Result<Int64Array> {
        let times = self.cells(column, |array| micros(&unpacked(array)?))?;
        let first_null = (0..times.len()).find(|row| times.is_null(*row));
        self.needs_values(column, first_null)?;
        Ok(times)
    }

    fn needs_values(&self, column: &str, first_null: Option<usize>) -> Result<()> {
        let Some(index) = first_null else {
            return Ok(());
        };
        let sentence = "no value, and every row needs one".to_owned();
        let fault = CellFault { index, sentence };
        Err(self.batches.cell_fault(self.batch, column, &fault))
    }

    /// Names as positions. A name that is none of the features asked for is another feature of the view.
    fn missing(&self, partial: &mut BTreeSet<usize>) -> Result<ArrayRef> {
        let row_count = self.batch.rows.num_rows();
        let none = || new_null_array(&missing_type(), row_count);
        if self.batch.rows.column_by_name(MISSING).is_none() {
            return Ok(none());
        }
        let names = self.cells(MISSING, |array| {
            convert(array, ValueType::List(Scalar::String))
        })?;
        if matches!(names.data_type(), DataType::Null) || names.null_count() == row_count {
            return Ok(none());
        }
        let names = names.as_list::<i32>();
        let features = &self.files.view.features;
        let mut positions = ListBuilder::new(UInt32Builder::new());
        for list in names.iter() {
            let list = list.unwrap_or_else(|| new_null_array(&DataType::Utf8, 0));
            for name in list.as_string::<i32>().iter().flatten() {
                let same = features.iter().enumerate();
                for (position, _) in same.filter(|(_, feature)| feature.name == name) {
                    partial.insert(position);
                    let position = u32::try_from(position).unwrap_or(u32::MAX);
                    positions.values().append_value(position);
                }
            }
            positions.append(true);
        }
        Ok(Arc::new(positions.finish()))
    }
}
