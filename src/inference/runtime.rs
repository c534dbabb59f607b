//! What a model runtime has to be able to do. Synchronous: batching, queues and back-pressure stand outside it.

use std::ops::Range;

use super::{Batch, Output, Signature};
use crate::error::Result;

/// A model, ready to run, owned by one worker thread.
pub trait Runtime: Send {
    /// Scores some rows of a batch: `Signature::columns` numbers a row.
    ///
    /// # Errors
    /// `Internal` where the runtime fails or answers in another shape.
    fn run(&mut self, batch: &Batch, rows: Range<usize>) -> Result<Output>;
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
        model: &[u8],
        signature: &Signature,
        count: usize,
    ) -> Result<Vec<Box<dyn Runtime>>>;
}
