//! Inference: signature, layout, the `Runtime` trait, versions, prediction.
//!
//! Knows the catalog and features; nothing of ort, SQL or the wire. `runtimes` implement `Runtime`, `grpc` calls
//! `Predictor`, `app` loads a `Repository` into a `ModelRegistry`.

mod batch;
mod definition;
mod golden;
mod predict;
mod registry;
mod repository;
mod runtime;
mod signature;
mod workers;

pub use batch::{Batch, Layout, Output, TensorData};
pub use definition::{InputPolicy, ModelDefinition, Policy};
pub use predict::{Prediction, Predictions, Predictor, Target};
pub use registry::{
    BoundInput, Model, ModelRegistry, ModelVersion, Models, ReadyVersion, VersionState,
};
pub use repository::{LoadOptions, Repository};
pub use runtime::{Runtime, RuntimeLoader};
pub use signature::{GoldenFile, Input, Signature, Task, Tensor, TensorType};
pub use workers::Workers;
