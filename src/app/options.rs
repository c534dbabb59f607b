//! What the configuration says, as each part wants to be told.

use crate::{
    config::{Config, DatabaseConfig, JobsConfig, LedgerConfig, ModelsConfig},
    grpc::RequestLimits,
    inference::{JobBounds, JobOptions, LedgerOptions, SAMPLE_WHOLE, ShadowOptions},
    stores::{DatabaseOptions, PinnedOptions},
};

pub(super) fn database_options(database: &DatabaseConfig) -> DatabaseOptions {
    let mut options = DatabaseOptions::new(database.url.clone());
    options.pool_size = database.connections_max;
    options.pinned = PinnedOptions {
        connections_max: database.pinned_connections_max,
        queries_max: database.pinned_queries_max,
        wait_max: database.pinned_wait_max,
    };
    options.connect_timeout = database.connect_max;
    options.acquire_timeout = database.acquire_max;
    options.statement_timeout = database.statement_max;
    options.load_timeout = database.load_max;
    options
}

pub(super) fn shadow_options(models: &ModelsConfig) -> ShadowOptions {
    ShadowOptions {
        max: models.shadows_max,
        busy_percent_max: models.shadows_busy_percent_max,
        delay: models.shadows_delay,
    }
}

pub(super) fn ledger_options(ledger: &LedgerConfig) -> LedgerOptions {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 100 percent"
    )]
    let sample_share = (ledger.sample_percent / 100.0 * f64::from(SAMPLE_WHOLE)).round() as u32;
    LedgerOptions {
        is_enabled: ledger.enabled,
        sample_share,
        queue_bytes_max: ledger.queue_bytes_max,
        batch_max: ledger.batch_max,
        flush_max: ledger.flush_max,
        retry_max: ledger.retry_max,
        retention_days: u32::try_from(ledger.retention_days).unwrap_or(u32::MAX),
    }
}

pub(super) fn job_options(jobs: &JobsConfig) -> JobOptions {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    JobOptions {
        entities_max: jobs.entities_max,
        chunk_rows_max: jobs.chunk_rows_max,
        attempts_max: count(jobs.attempts_max),
        retry_wait: jobs.retry_wait,
        lease: jobs.lease,
        poll_interval: jobs.poll_interval,
        sweep_interval: jobs.sweep_interval,
        retention: jobs.result_retention,
        bounds: JobBounds {
            queued_max: count(jobs.queued_max),
            kept_max: count(jobs.kept_max),
            bytes_max: jobs.bytes_max,
            run_max: jobs.run_max,
        },
    }
}

pub(super) fn request_limits(config: &Config) -> RequestLimits {
    let limits = &config.limits;
    RequestLimits {
        entities_max: limits.entities_max,
        features_max: limits.features_max,
        values_max: limits.values_max,
        definitions_bytes_max: limits.definitions_bytes_max,
        answer_bytes_max: config.server.answer_bytes_max,
    }
}
