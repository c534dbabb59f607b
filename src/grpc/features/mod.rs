//! What FeatureService does, one file a concern; `feature_service` hands each rpc to one of them.

mod answer;
mod definitions;
mod historical;
mod materialize;
mod read;
mod statistics;
mod stream;
mod write;

pub use definitions::describe_view;
pub(super) use historical::TrainingSetStream;
pub use materialize::Loads;
pub(in crate::grpc) use materialize::ProgressStream;
pub use statistics::Scans;
