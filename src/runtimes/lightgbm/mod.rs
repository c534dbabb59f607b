//! LightGBM models in the library's own text format, whose thresholds are doubles and do not survive ONNX. The library comes
//! with the cargo feature `lightgbm`; without it, such models are refused with a sentence that says so.

#[cfg(feature = "lightgbm")]
mod booster;
#[cfg(feature = "lightgbm")]
mod explain;
#[cfg(any(test, not(feature = "lightgbm")))]
mod not_built;
#[cfg(feature = "lightgbm")]
mod objective;
#[cfg(feature = "lightgbm")]
mod text;
#[cfg(feature = "lightgbm")]
mod tree;

use std::sync::Arc;

use crate::inference::RuntimeLoader;

/// The name that signatures use.
const NAME: &str = "lightgbm";

/// Loads LightGBM's text models, or says how to build a server that does.
pub fn loader() -> Arc<dyn RuntimeLoader> {
    #[cfg(feature = "lightgbm")]
    return Arc::new(booster::LightGbmLoader);
    #[cfg(not(feature = "lightgbm"))]
    return Arc::new(not_built::NotBuilt);
}
