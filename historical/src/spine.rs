//! The spine: checked once, then read for each view as keys and times, and at last as it is.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, LargeBinaryArray, RecordBatch, UInt64Array};

use arrow_schema::SchemaRef;

use crate::{
    budget::{Budget, SPINE_ROW_BYTES},
    convert::{CellFault, unpacked},
    error::{Error, Result},
    input::{Batches, Input},
    keys::{KeyColumn, key_bytes, spine_accepts},
    plan::{Plan, ViewPlan},
    times::micros,
    value_type::Scalar,
    view::spine_schema,
};

/// The spine's file.
pub(crate) struct Spine<'a> {
    input: Input,
    time: &'a str,
}

impl<'a> Spine<'a> {
    /// Opens the spine and looks for everything that the plan wants of it.
    ///
    /// # Errors
    /// As `Input::open`; `InvalidArgument` with every column at fault.
    pub(crate) fn check(plan: &'a Plan) -> Result<Self> {
        let spine = Spine {
            input: Input::open(&plan.spine.file)?,
            time: &plan.spine.timestamp_field,
        };
        let mut faults = spine.time_faults();
        for view in &plan.views {
            spine.add_key_faults(view, &mut faults);
            spine.add_output_faults(view, &mut faults);
        }
        if faults.is_empty() {
            Ok(spine)
        } else {
            faults.dedup();
            Err(Error::faults(&faults))
        }
    }

    fn time_faults(&self) -> Vec<String> {
        let place = self.input.column_place(self.time);
        match self.input.find(self.time) {
            Ok((_, found)) if Scalar::Timestamp.accepts(found) => Vec::new(),
            Ok((_, found)) => vec![format!(
                "{place}: expected a timestamp, found {found}; cast the column before"
            )],
            Err(fault) => vec![format!("{place}: {fault}; expected a timestamp")],
        }
    }

    fn add_key_faults(&self, view: &ViewPlan, faults: &mut Vec<String>) {
        for key in &view.join_keys {
            let place = self.input.column_place(&key.name);
            let wanted = key.scalar();
            let use_of_it = format!("a join key of view \"{}\"", view.name);
            match self.input.find(&key.name) {
                Ok((_, found)) if spine_accepts(wanted, found) => {}
                Ok((_, found)) => faults.push(format!(
                    "{place}: {use_of_it} is a {wanted}, found {found}; cast the column before"
                )),
                Err(fault) => faults.push(format!("{place}: {fault}; {use_of_it} is a {wanted}")),
            }
        }
    }

    fn add_output_faults(&self, view: &ViewPlan, faults: &mut Vec<String>) {
        let schema = self.input.schema();
        for feature in &view.features {
            if schema.column_with_name(&feature.output).is_some() {
                faults.push(format!(
                    "{}: view \"{}\" would write its feature \"{}\" under that name; give another as output",
                    self.input.column_place(&feature.output),
                    view.name,
                    feature.name
                ));
            }
        }
    }

    /// The columns, as they are.
    pub(crate) fn schema(&self) -> &SchemaRef {
        self.input.schema()
    }

    /// How many rows there are.
    pub(crate) fn row_count(&self) -> u64 {
        self.input.row_count()
    }

    /// What the rows are thought to take while they are joined with a view.
    pub(crate) fn joined_bytes(&self, view: &ViewPlan) -> usize {
        let rows = usize::try_from(self.row_count()).unwrap_or(usize::MAX);
        let weight = self.input.weight_bytes(&self.columns(view));
        weight.saturating_add(rows.saturating_mul(SPINE_ROW_BYTES))
    }

    fn columns(&self, view: &ViewPlan) -> Vec<usize> {
        let keys = view.join_keys.iter().map(|key| key.name.as_str());
        let names = keys.chain([self.time]);
        let found = names.filter_map(|name| self.input.find(name).ok());
        found.map(|(index, _)| index).collect()
    }

    /// All columns, for the output.
    ///
    /// # Errors
    /// As `Input::read`.
    pub(crate) fn read_all(&self, budget: &Budget) -> Result<Batches> {
        let all: Vec<usize> = (0..self.input.schema().fields().len()).collect();
        let rows = usize::try_from(self.row_count())
            .unwrap_or(usize::MAX)
            .max(1);
        let row_bytes = self.input.weight_bytes(&all) / rows;
        self.input.read(&all, budget.batch_rows(row_bytes))
    }

    /// Keys and times of all rows, as one view joins them.
    ///
    /// # Errors
    /// `InvalidArgument` with file, row and column; whatever `take` returns.
    pub(crate) fn read(
        &self,
        view: &ViewPlan,
        budget: &Budget,
        mut take: impl FnMut(RecordBatch, &LargeBinaryArray) -> Result<()>,
    ) -> Result<()> {
        let columns = self.columns(view);
        let rows = usize::try_from(self.row_count())
            .unwrap_or(usize::MAX)
            .max(1);
        let row_bytes = self.input.weight_bytes(&columns) / rows;
        let mut batches = self.input.read(&columns, budget.batch_rows(row_bytes))?;
        while let Some(batch) = batches.next_batch()? {
            let row_count = batch.rows.num_rows();
            let at = |name: &str, fault: &CellFault| batches.cell_fault(&batch, name, fault);
            let times = unpacked(batch.column(self.time)?)
                .and_then(|times| micros(&times))
                .map_err(|fault| at(self.time, &fault))?;
            if let Some(index) = (0..row_count).find(|row| times.is_null(*row)) {
                let sentence = "no time, and every row of the spine needs one".to_owned();
                return Err(at(self.time, &CellFault { index, sentence }));
            }
            let mut keys = Vec::new();
            for key in &view.join_keys {
                let typed = KeyColumn::new(batch.column(&key.name)?, key.scalar());
                keys.push(typed.map_err(|fault| at(&key.name, &fault))?);
            }
            let keys = key_bytes(&keys, row_count);
            let first = batch.first_row;
            let numbers = (first..).take(row_count);
            let columns: Vec<ArrayRef> = vec![
                Arc::new(UInt64Array::from_iter_values(numbers)),
                Arc::clone(&keys) as ArrayRef,
                Arc::new(times),
            ];
            take(RecordBatch::try_new(spine_schema(), columns)?, &keys)?;
        }
        Ok(())
    }
}
