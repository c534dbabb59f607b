//! The gRPC face: one file a service, each method a few lines. The only place that knows the generated types.

mod codec;
mod column_reader;
mod convert;
mod feature_service;
mod features;
mod jobs;
mod ledger;
mod model_service;
mod prediction_service;
mod status;
mod stream;
mod typed_column;

/// The generated messages and services of `ferrocast.v1`.
#[allow(clippy::all, reason = "generated; the comments are in proto/")]
pub mod pb {
    tonic::include_proto!("ferrocast.v1");
}

pub use codec::SmallBuffers;
pub use feature_service::FeatureApi;
pub use features::{Loads, Scans, describe_view};
pub use model_service::ModelApi;
pub use prediction_service::PredictionApi;
pub use status::{code, message_fault, to_status};
pub use stream::{InFlight, StreamBounds};

/// The encoded descriptor set of every proto, comments and annotations included.
pub const DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/ferrocast_descriptor.bin"));

/// Full names of the services, as health checks know them.
pub const SERVICE_NAMES: [&str; 3] = [
    "ferrocast.v1.FeatureService",
    "ferrocast.v1.PredictionService",
    "ferrocast.v1.ModelService",
];

/// How much one request may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// Entities or rows.
    pub entities_max: usize,
    /// Features.
    pub features_max: usize,
    /// Values: entities times features.
    pub values_max: usize,
    /// Bytes of a definitions text.
    pub definitions_bytes_max: usize,
    /// Bytes of the values of an answer.
    pub answer_bytes_max: usize,
}
