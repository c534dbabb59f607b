//! Model runtimes: they implement `inference::Runtime`. Nothing else of ours knows them but `app`.

pub mod compiled;
pub mod lightgbm;
pub mod onnx;
mod trees;
