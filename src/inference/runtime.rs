//! What a model runtime has to be able to do. Synchronous: batching, queues and back-pressure stand outside it.

use std::ops::Range;

use super::{Batch, Explanation, Output, Signature};
use crate::error::{Error, Result};

/// A model, ready to run, owned by one worker thread.
pub trait Runtime: Send {
    /// Scores some rows of a batch: `Signature::columns` numbers a row.
    ///
    /// # Errors
    /// `Internal` where the runtime fails or answers in another shape.
    fn run(&mut self, batch: &Batch, rows: Range<usize>) -> Result<Output>;

    /// Explains the first row of a batch: an explanation an output of the model's trees, one for a binary classifier.
    ///
    /// # Errors
    /// `FailedPrecondition` where the version came without what explanations need; `Internal` where the runtime fails.
    fn explain(&mut self, _batch: &Batch) -> Result<Vec<Explanation>> {
        Err(cannot_explain())
    }
}

/// The files of a version, as far as a runtime needs them; their digests are those of the signature.
#[derive(Debug, Clone, Copy)]
pub struct ModelFiles<'a> {
    /// The model.
    pub model: &'a [u8],
    /// What explains it; none where the signature names nothing.
    pub explain: Option<&'a [u8]>,
}

/// What is answered where nothing explains a version.
pub fn cannot_explain() -> Error {
    Error::failed_precondition(
        "this version cannot explain its scores: its signature.json has no \"explain\" (see models/README.md)",
    )
}

/// Makes runtimes of one kind.
pub trait RuntimeLoader: Send + Sync {
    /// The name that signatures use.
    fn name(&self) -> &'static str;

    /// Checks a model file, which is untrusted, and makes `count` independent copies ready to run.
    ///
    /// # Errors
    /// `FailedPrecondition` that says what is wrong with the file or how it does not fit the signature.
    fn load(
        &self,
        files: ModelFiles<'_>,
        signature: &Signature,
        count: usize,
    ) -> Result<Vec<Box<dyn Runtime>>>;
}
