//! What every store has to do, run over each of them, and what is particular to one.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr
)]

mod as_of;
mod cache;
mod cancel;
mod catalog;
mod changes;
mod existing;
mod fixtures;
mod gate;
mod gated;
#[path = "../support/guard.rs"]
mod guard;
mod history;
mod job_bounds;
mod jobs;
mod jobs_support;
mod joined;
mod ledger;
mod ledger_partitions;
mod linger;
mod loads;
mod materialize;
mod news;
mod outage;
mod parquet;
mod partial;
mod pinned;
#[path = "../support/postgres.rs"]
mod postgres;
mod postgres_limits;
mod postgres_only;
mod postgres_theirs;
mod properties;
mod queries;
mod redis_halves;
mod redis_loss;
mod redis_only;
mod redis_refills;
#[path = "../support/redis.rs"]
mod redis_server;
mod refusals;
mod releases;
mod rows;
mod sources;
mod sqlite;
mod tls;
mod types;

/// Runs each function for every store, a fresh one each.
macro_rules! for_every_store {
    ($($name:ident),* $(,)?) => {
        mod sqlite_store {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::fixtures::sqlite().await).await;
            })*
        }
        mod postgres_store {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::fixtures::postgres().await).await;
            })*
        }
        mod redis_store {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::fixtures::redis().await).await;
            })*
        }
        mod redis_cluster_store {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::fixtures::redis_cluster().await).await;
            })*
        }
        mod redis_before_postgres {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::fixtures::redis_before_postgres().await).await;
            })*
        }
    };
}
pub(crate) use for_every_store;

/// The same for tests that run SQL by hand: only for stores whose features are read from the database's tables.
macro_rules! for_every_sql_store {
    ($($name:ident),* $(,)?) => {
        mod sqlite_sql {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::fixtures::sqlite().await).await;
            })*
        }
        mod postgres_sql {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::fixtures::postgres().await).await;
            })*
        }
    };
}
pub(crate) use for_every_sql_store;
