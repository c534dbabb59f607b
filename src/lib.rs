//! Ferrocast keeps features and predicts from them in one process.
//!
//! Layers, each importing only those before it: `error`, `memory`, `config`, `telemetry`; the domain (`catalog`, `features`,
//! `inference`); the edges (`stores`, `runtimes`, `sources`, `artifacts`, `training_sets`, `exports` outward, `grpc`, `middleware`,
//! `webhooks` inward); `app`; `cli`.

pub mod app;
pub mod artifacts;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod error;
pub mod exports;
pub mod features;
pub mod grpc;
pub mod inference;
mod memory;
pub mod middleware;
pub mod runtimes;
pub mod sources;
pub mod stores;
pub mod telemetry;
pub mod training_sets;
pub mod webhooks;
