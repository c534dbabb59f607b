//! Ferrocast keeps features and predicts from them in one process.
//!
//! Layers, each importing only those before it: `error`, `config`, `telemetry`; the domain (`catalog`, `features`,
//! `inference`); the edges (`stores`, `runtimes`, `sources` outward, `grpc`, `middleware` inward); `app`; `cli`.

pub mod catalog;
pub mod error;
pub mod features;
pub mod sources;
pub mod stores;
