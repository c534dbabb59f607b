//! Model runtimes: they implement `inference::Runtime`. Nothing else of ours knows them but `app`.

pub mod onnx;
mod trees;
