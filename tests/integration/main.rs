//! The whole server: real sockets, real stores, the real model, real files.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice
)]

mod allocations;
mod as_of;
mod bad_input;
mod batch_sizes;
mod catalog_watch;
mod cli;
mod column_faults;
mod columns;
mod compiled;
mod contract;
mod documents;
mod drift;
mod explain;
mod exports;
mod exports_explained;
mod fallback;
mod features;
mod fleet;
mod front;
mod historical;
mod historical_stops;
mod historical_ties;
mod jobs;
mod jobs_elsewhere;
mod jobs_ledger;
mod jobs_restart;
mod jobs_support;
mod kill;
mod ledger;
mod ledger_categories;
mod ledger_export;
mod ledger_kept;
mod ledger_outage;
mod lifecycle;
mod materialize;
mod mlflow;
mod mlflow_faults;
mod models;
mod models_support;
mod no_number;
mod objects;
mod objects_elsewhere;
mod objects_profiles;
mod policies;
mod predict_stream;
mod release_faults;
mod releases;
mod reload;
mod rest;
mod scores;
mod serving;
mod shadow_reads;
mod stream;
mod support;
mod ttl_calendar;

#[path = "../support/forest.rs"]
mod forest;
#[path = "../support/guard.rs"]
mod guard;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/redis.rs"]
mod redis_server;
#[path = "../support/services.rs"]
mod services;
