//! What stands where LightGBM would, in a server that was built without it.

use super::NAME;
use crate::{
    error::{Error, Result},
    inference::{ModelFiles, Runtime, RuntimeLoader, Signature},
};

/// Refuses every model.
pub(super) struct NotBuilt;

impl RuntimeLoader for NotBuilt {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(&self, _: ModelFiles<'_>, _: &Signature, _: usize) -> Result<Vec<Box<dyn Runtime>>> {
        Err(Error::failed_precondition(
            "this server was built without LightGBM; `make build FEATURES=lightgbm` builds it with it, or export the model to \
             ONNX",
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_server_without_lightgbm_says_how_to_get_one_with_it() {
        let signature = Signature::parse(include_str!(
            "../../../tests/data/models/lightgbm_binary/1/signature.json"
        ));
        let files = ModelFiles {
            model: b"",
            explain: None,
        };
        let refused = NotBuilt.load(files, &signature.unwrap(), 1);
        let message = refused.err().unwrap().to_string();
        assert!(message.contains("FEATURES=lightgbm"), "{message}");
        assert_eq!(NotBuilt.name(), "lightgbm");
    }
}
