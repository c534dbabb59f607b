//! What a source's digest is made of, so that the same content under the same definition is known again.

use sha2::{Digest, Sha256};

use crate::{
    catalog::FeatureView,
    error::{Error, Result},
};

/// A SHA-256 that has taken in a view's definition; the source's content comes after it.
pub(crate) fn definition_digest(view: &FeatureView) -> Result<Sha256> {
    let definition = serde_json::to_vec(view).map_err(|fault| {
        Error::internal("a definition that JSON cannot hold").with_source(fault)
    })?;
    let mut hasher = Sha256::new();
    // The length keeps the definition's end from being taken for the content's beginning.
    let length = u64::try_from(definition.len()).unwrap_or(u64::MAX);
    hasher.update(length.to_le_bytes());
    hasher.update(&definition);
    Ok(hasher)
}

/// The digest of a content of which only the newer rows were loaded: not that of the whole, which a later run may want.
pub(super) fn partly_loaded(content_digest: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"newer rows of ");
    hasher.update(content_digest);
    hex::encode(hasher.finalize())
}
