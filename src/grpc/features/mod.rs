//! What FeatureService does, one file a concern; `feature_service` hands each rpc to one of them.

mod answer;
mod definitions;
mod read;
mod stream;
mod write;

pub use stream::{InFlight, StreamBounds};
