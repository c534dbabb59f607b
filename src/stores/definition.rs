//! Definitions as the databases keep them: JSON text.

use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};

/// The JSON of an entity or view.
pub(super) fn text(definition: &impl Serialize) -> Result<String> {
    serde_json::to_string(definition)
        .map_err(|fault| Error::internal("a definition that JSON cannot hold").with_source(fault))
}

/// Reads an entity or view.
///
/// # Errors
/// `FailedPrecondition` where it is not one that this binary understands.
pub(super) fn parse<T: DeserializeOwned>(table: &str, name: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|fault| {
        Error::failed_precondition(format!(
            "the definition of \"{name}\" in {table} is not one that this ferrocast understands: {fault}"
        ))
    })
}
