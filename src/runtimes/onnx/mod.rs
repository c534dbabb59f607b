//! ONNX models through ONNX Runtime (`ort`): one session a worker, tuned for trees on a server.

mod inputs;
mod inspect;
mod library;

use std::{ops::Range, path::Path, sync::Arc};

use ort::{
    environment::Environment,
    ep::CPU,
    memory::Allocator,
    session::{
        HasSelectedOutputs, OutputSelector, RunOptions, Session,
        builder::{BuilderResult, GraphOptimizationLevel, SessionBuilder},
    },
    value::{DynValue, Outlet, Tensor as OrtTensor, TensorElementType, ValueType},
};

use self::inputs::{Texts, graph_inputs, part};
use super::trees::Explainer;
use crate::{
    error::{Error, Result},
    inference::{
        AnswerShape, Batch, Explanation, ModelFiles, Output, Runtime, RuntimeLoader, Signature,
        Tensor, TensorData, TensorType,
    },
    memory::GivesBack,
};

/// Larger calls gain nothing per row for trees, and hold more memory.
const ROWS_PER_CALL: usize = 128;

/// Loads ONNX models.
pub struct OnnxLoader {
    environment: Environment,
    nodes_max: usize,
}

impl OnnxLoader {
    /// Opens ONNX Runtime, from the configured library or from where it is found; `nodes_max` bounds a graph's nodes.
    ///
    /// # Errors
    /// `FailedPrecondition` where the library is not there, cannot be opened or is too old.
    pub fn open(library: Option<&Path>, nodes_max: usize) -> Result<OnnxLoader> {
        Ok(OnnxLoader {
            environment: library::open(library)?,
            nodes_max,
        })
    }
}

impl RuntimeLoader for OnnxLoader {
    fn name(&self) -> &'static str {
        "onnx"
    }

    fn load(
        &self,
        files: ModelFiles<'_>,
        signature: &Signature,
        count: usize,
    ) -> Result<Vec<Box<dyn Runtime>>> {
        let inspected = inspect::inspect(files.model, self.nodes_max)?;
        let explainer = match (files.explain, &signature.explain) {
            (Some(text), Some(by)) => Some(Arc::new(Explainer::new(text, by, signature)?)),
            (Some(_) | None, _) => None,
        };
        let mut runtimes: Vec<Box<dyn Runtime>> = Vec::with_capacity(count);
        let memory = Arc::new(GivesBack);
        for _ in 0..count {
            let session = start_session(&self.environment, files.model)?;
            check_fit(&session, signature)?;
            let needed = OutputSelector::no_default().with(&signature.output);
            let options = RunOptions::new().map_err(|fault| failed(&fault))?;
            runtimes.push(Box::new(OnnxRuntime {
                options: options.with_outputs(needed),
                one_row: OneRow::Unseen,
                explained: explained(&session, signature, explainer.clone())?,
                tensors: signature.tensors.clone(),
                texts: Texts::default(),
                output: signature.output.clone(),
                shape: signature.answer_shape(),
                has_products: inspected.has_products,
                session,
                _memory: Arc::clone(&memory),
            }));
        }
        Ok(runtimes)
    }
}

/// Starts a session that runs on the calling thread alone.
fn start_session(environment: &Environment, model: &[u8]) -> Result<Session> {
    let cannot_load =
        |fault: String| Error::failed_precondition(format!("ONNX Runtime refuses it: {fault}"));
    let cpu = CPU::default().with_arena_allocator(false);
    let configured = Session::builder(environment)
        .map_err(|fault| fault.to_string())
        .and_then(|builder| text(builder.with_intra_threads(1)))
        .and_then(|builder| text(builder.with_inter_threads(1)))
        .and_then(|builder| text(builder.with_parallel_execution(false)))
        .and_then(|builder| text(builder.with_intra_op_spinning(false)))
        .and_then(|builder| text(builder.with_inter_op_spinning(false)))
        // An arena keeps a megabyte a session, and trees ask for little that it could hold.
        .and_then(|builder| text(builder.with_execution_providers([cpu.build()])))
        .and_then(|builder| text(builder.with_optimization_level(GraphOptimizationLevel::All)));
    configured
        .map_err(cannot_load)?
        .commit_from_memory(model)
        .map_err(|fault| cannot_load(fault.to_string()))
}

/// A builder's fault as text: it carries the builder, which is large.
fn text(built: BuilderResult) -> std::result::Result<SessionBuilder, String> {
    built.map_err(|fault| fault.to_string())
}

/// Holds the graph's inputs and output against the signature.
fn check_fit(session: &Session, signature: &Signature) -> Result<()> {
    let mut faults = Vec::new();
    for tensor in &signature.tensors {
        match session.inputs().iter().find(|i| i.name() == tensor.name) {
            None => faults.push(format!(
                "the graph has no input \"{}\"; it has: {}",
                tensor.name,
                names(session.inputs())
            )),
            Some(outlet) => check_input(outlet, tensor, &mut faults),
        }
    }
    for outlet in session.inputs() {
        if !signature.tensors.iter().any(|t| t.name == outlet.name()) {
            faults.push(format!(
                "the graph's input \"{}\" is no tensor of the signature",
                outlet.name()
            ));
        }
    }
    let outputs = session.outputs();
    match outputs.iter().find(|o| o.name() == signature.output) {
        None => faults.push(format!(
            "the graph has no output \"{}\"; it has: {}",
            signature.output,
            names(outputs)
        )),
        Some(outlet) => check_output(outlet, signature.answer_shape(), &mut faults),
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Error::failed_precondition(faults.join("; ")))
    }
}

fn names(outlets: &[Outlet]) -> String {
    let names: Vec<&str> = outlets.iter().map(Outlet::name).collect();
    names.join(", ")
}

/// Holds an input against [rows, columns] of the signature's type. A dimension of -1 is open.
fn check_input(outlet: &Outlet, tensor: &Tensor, faults: &mut Vec<String>) {
    let wanted = [element_type(tensor.tensor_type)];
    let Some(shape) = tensor_shape(outlet, &wanted, faults) else {
        return;
    };
    let columns = i64::try_from(tensor.columns).unwrap_or(i64::MAX);
    let fits = matches!(shape, [-1, found] if *found == -1 || *found == columns);
    if !fits {
        faults.push(not_the_shape(outlet, shape, &format!("[rows, {columns}]")));
    }
}

/// Holds the output against what the signature promises. Exporters of regressors write [rows] and answer [rows, 1].
fn check_output(outlet: &Outlet, answer: AnswerShape, faults: &mut Vec<String>) {
    let wanted = [TensorElementType::Float32, TensorElementType::Float64];
    let Some(shape) = tensor_shape(outlet, &wanted, faults) else {
        return;
    };
    let fits = match shape {
        [-1] => answer.takes(1),
        [-1, -1] => true,
        [-1, columns] => usize::try_from(*columns).is_ok_and(|columns| answer.takes(columns)),
        _ => false,
    };
    if !fits {
        let wanted = format!("[rows, {}]", answer.columns);
        faults.push(not_the_shape(outlet, shape, &wanted));
    }
}

/// The shape of a tensor of one of the types; none, and a fault, for anything else.
fn tensor_shape<'a>(
    outlet: &'a Outlet,
    wanted: &[TensorElementType],
    faults: &mut Vec<String>,
) -> Option<&'a [i64]> {
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        faults.push(format!("\"{}\" of the graph is no tensor", outlet.name()));
        return None;
    };
    if !wanted.contains(ty) {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        faults.push(format!(
            "\"{}\" of the graph is a tensor of {ty}, and the signature needs one of {}",
            outlet.name(),
            wanted.join(" or ")
        ));
    }
    Some(shape)
}

fn not_the_shape(outlet: &Outlet, shape: &[i64], wanted: &str) -> String {
    let open = |size: &i64| match size {
        -1 => "?".to_owned(),
        size => size.to_string(),
    };
    let found: Vec<String> = shape.iter().map(open).collect();
    let hint = match shape {
        [rows, ..] if *rows != -1 => "; export with an open first dimension (None)",
        _ => "",
    };
    format!(
        "\"{}\" has the shape [{}] in the graph, and {wanted} in the signature{hint}",
        outlet.name(),
        found.join(", ")
    )
}

fn element_type(tensor_type: TensorType) -> TensorElementType {
    match tensor_type {
        TensorType::Float => TensorElementType::Float32,
        TensorType::Double => TensorElementType::Float64,
        TensorType::Int64 => TensorElementType::Int64,
        TensorType::String => TensorElementType::String,
        TensorType::Bool => TensorElementType::Bool,
    }
}

/// One session.
struct OnnxRuntime {
    session: Session,
    tensors: Vec<Tensor>,
    texts: Texts,
    output: String,
    /// Asks for the one output that is needed.
    options: RunOptions<HasSelectedOutputs>,
    one_row: OneRow,
    shape: AnswerShape,
    /// Whether one row by itself would be computed otherwise than among others.
    has_products: bool,
    explained: Option<Explained>,
    /// The last, for it acts when all else is gone, of all sessions of a version.
    _memory: Arc<GivesBack>,
}

/// Where the output of one row goes.
enum OneRow {
    /// No run has shown yet what it is.
    Unseen,
    /// To a place of its own, which ONNX Runtime need not make for each run.
    Placed(RunOptions<HasSelectedOutputs>),
    /// To one that ONNX Runtime makes: it takes no other where a graph declares another shape than it answers.
    Made,
}

/// What explains a session's scores, and where the matrix that it takes comes from.
struct Explained {
    explainer: Arc<Explainer>,
    matrix: Matrix,
}

enum Matrix {
    /// The tensor at a position of the batch.
    Given(usize),
    /// An output of the graph.
    Computed(String, RunOptions<HasSelectedOutputs>),
}

/// Finds the matrix that the trees take among the graph's inputs and outputs.
fn explained(
    session: &Session,
    signature: &Signature,
    explainer: Option<Arc<Explainer>>,
) -> Result<Option<Explained>> {
    let (Some(explainer), Some(by)) = (explainer, &signature.explain) else {
        return Ok(None);
    };
    let given = signature
        .tensors
        .iter()
        .position(|tensor| tensor.name == by.matrix && tensor.tensor_type == TensorType::Float);
    let is_output = session.outputs().iter().any(|o| o.name() == by.matrix);
    let matrix = match given {
        Some(tensor) => Matrix::Given(tensor),
        None if is_output => {
            let options = RunOptions::new().map_err(|fault| failed(&fault))?;
            let needed = OutputSelector::no_default().with(&by.matrix);
            Matrix::Computed(by.matrix.clone(), options.with_outputs(needed))
        }
        None => {
            return Err(Error::failed_precondition(format!(
                "explain.matrix: the graph has no output, and no input of floats, \"{}\"; it has the outputs {}",
                by.matrix,
                names(session.outputs())
            )));
        }
    };
    Ok(Some(Explained { explainer, matrix }))
}

impl Runtime for OnnxRuntime {
    fn run(&mut self, batch: &Batch, rows: Range<usize>) -> Result<Output> {
        let mut answered: Option<Output> = None;
        for first in rows.clone().step_by(ROWS_PER_CALL) {
            let part = first..rows.end.min(first + ROWS_PER_CALL);
            let part = if part.len() == 1 && self.has_products {
                self.run_one(batch, part)?
            } else {
                self.run_part(batch, part)?
            };
            match &mut answered {
                Some(all) => all.append(part)?,
                None => answered = Some(part),
            }
        }
        let output = answered.ok_or_else(|| Error::internal("a batch without rows"))?;
        self.shape.complete(output, rows.len())
    }

    fn explain(&mut self, batch: &Batch) -> Result<Vec<Explanation>> {
        let Some(explained) = &self.explained else {
            return Err(crate::inference::cannot_explain());
        };
        let explainer = Arc::clone(&explained.explainer);
        let matrix = self.matrix(batch)?;
        explainer.explain(&matrix)
    }
}

impl OnnxRuntime {
    /// The matrix that the trees take, of the first row.
    fn matrix(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        let row = 0..1;
        match self.explained.as_ref().map(|explained| &explained.matrix) {
            Some(Matrix::Given(at)) => match (batch.tensors.get(*at), self.tensors.get(*at)) {
                (Some(TensorData::Float(data)), Some(tensor)) => {
                    Ok(part(data, 0..tensor.columns).to_vec())
                }
                (Some(_) | None, _) => Err(Error::internal("the batch has no such matrix")),
            },
            Some(Matrix::Computed(name, options)) => {
                let inputs = graph_inputs(&self.tensors, batch, &row, &mut self.texts)?;
                let outputs = self
                    .session
                    .run_with_options(inputs, options)
                    .map_err(|fault| failed(&fault))?;
                let output = outputs
                    .get(name)
                    .ok_or_else(|| Error::internal("ONNX Runtime gave no matrix"))?;
                let (_, values) = output
                    .try_extract_tensor::<f32>()
                    .map_err(|fault| failed(&fault))?;
                Ok(values.to_vec())
            }
            None => Ok(Vec::new()),
        }
    }

    /// One row, scored as it is among others: in the company of itself.
    fn run_one(&mut self, batch: &Batch, row: Range<usize>) -> Result<Output> {
        let twice = Batch::joined(&[(batch, row.clone()), (batch, row)]);
        let mut both = self.run_part(&twice, 0..2)?;
        Ok(both.take_first(both.len() / 2))
    }

    fn run_part(&mut self, batch: &Batch, rows: Range<usize>) -> Result<Output> {
        let inputs = graph_inputs(&self.tensors, batch, &rows, &mut self.texts)?;
        let is_one = rows.len() == 1;
        let options = match &self.one_row {
            OneRow::Placed(options) if is_one => options,
            OneRow::Placed(_) | OneRow::Unseen | OneRow::Made => &self.options,
        };
        let outputs = self
            .session
            .run_with_options(inputs, options)
            .map_err(|fault| failed(&fault))?;
        let output = outputs
            .get(&self.output)
            .ok_or_else(|| Error::internal("ONNX Runtime gave no output"))?;
        let (shape, values) = values_of(output).map_err(|fault| failed(&fault))?;
        if is_one && matches!(self.one_row, OneRow::Unseen) {
            drop(outputs);
            self.one_row = self.place_for(&shape, &values);
        }
        Ok(values)
    }

    /// A place for outputs as this one of one row is, where the graph declares just that.
    fn place_for(&self, shape: &[i64], values: &Output) -> OneRow {
        let outputs = self.session.outputs();
        let declared = outputs.iter().find(|outlet| outlet.name() == self.output);
        let is_declared = match declared.map(Outlet::dtype) {
            Some(ValueType::Tensor {
                shape: declared, ..
            }) => match (&declared[..], shape) {
                ([-1], [1]) => true,
                ([-1, columns], [1, answered]) => columns == answered,
                _ => false,
            },
            _ => false,
        };
        let placed = is_declared.then(|| with_place(&self.output, shape, values));
        match placed {
            Some(Ok(options)) => OneRow::Placed(options),
            Some(Err(_)) | None => OneRow::Made,
        }
    }
}

/// A copy of an output, and its shape.
fn values_of(output: &DynValue) -> ort::Result<(Vec<i64>, Output)> {
    if let Ok((shape, values)) = output.try_extract_tensor::<f32>() {
        return Ok((shape.to_vec(), Output::Float(values.to_vec())));
    }
    let (shape, values) = output.try_extract_tensor::<f64>()?;
    Ok((shape.to_vec(), Output::Double(values.to_vec())))
}

/// Asks for an output and gives the place for it: ONNX Runtime then makes none for each run.
fn with_place(
    name: &str,
    shape: &[i64],
    values: &Output,
) -> ort::Result<RunOptions<HasSelectedOutputs>> {
    let memory = Allocator::default();
    let place = match values {
        Output::Float(_) => OrtTensor::<f32>::new(&memory, shape)?.into_dyn(),
        Output::Double(_) => OrtTensor::<f64>::new(&memory, shape)?.into_dyn(),
    };
    let needed = OutputSelector::no_default().with(name);
    Ok(RunOptions::new()?.with_outputs(needed.preallocate(name, place)))
}

fn failed(fault: &ort::Error) -> Error {
    Error::internal(format!("ONNX Runtime failed: {fault}"))
}
