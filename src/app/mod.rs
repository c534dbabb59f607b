//! The composition root: the only place that sees every other. Opens the store, loads the models, puts the services
//! together.

mod banner;
mod connections;
mod describe;
mod front;
mod options;
mod server;
mod watch;

use std::{path::Path, sync::Arc};

use axum::Router;
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};

use crate::{
    artifacts::{AllowedHosts, ArtifactOptions, ArtifactSources, MlflowServer},
    catalog::{Catalog, CatalogHandle, CatalogStore},
    config::{Config, DatabaseConfig, OnlineConfig},
    error::{Error, Result, Violation},
    features::{Materializer, OnlineStore, RowCache},
    grpc::{
        DESCRIPTOR_SET, FeatureApi, Loads, ModelApi, PredictionApi, Scans, StreamBounds,
        pb::{
            feature_service_server::FeatureServiceServer, model_service_server::ModelServiceServer,
            prediction_service_server::PredictionServiceServer,
        },
    },
    inference::{
        self, JobStore, Jobs, Known, Ledger, Lifecycle, LoadOptions, Mirror, MirrorOptions,
        ModelRegistry, Models, Predictor, ReleaseStore, Releases, Repository, RuntimeLoader,
        Shadows,
    },
    middleware::{self, Bounds},
    runtimes::{compiled::CompiledLoader, lightgbm, onnx::OnnxLoader},
    sources::FileSources,
    stores::{self, OnlineOptions, Store},
    telemetry,
    training_sets::{TrainingSetMaker, TrainingSetOptions},
    webhooks,
};

pub use banner::banner;
pub use describe::view_json;
use options::{database_options, job_options, ledger_options, request_limits, shadow_options};
pub use server::Server;

/// What is wrong with settings that only those who use them can read: the log filter, the URLs of database and Redis, the
/// gateway's aliases and origins.
pub fn settings_faults(config: &Config) -> Vec<Violation> {
    let checked = [
        ("telemetry.log_filter", telemetry::check(&config.telemetry)),
        ("database.url", stores::check_url(&config.database.url)),
        ("artifacts.allowed_hosts", allowed_hosts(config).map(drop)),
        (
            "online.redis_urls",
            online_options(config).map_or(Ok(()), |online| stores::check_online(&online)),
        ),
    ];
    let faults = checked.into_iter().filter_map(|(field, checked)| {
        let description = checked.err()?.message().to_owned();
        let field = field.to_owned();
        Some(Violation { field, description })
    });
    faults
        .chain(server::gateway_faults(&config.gateway))
        .collect()
}

/// Opens the store that the configuration names, with the Redis before it where one is set.
///
/// # Errors
/// `Unavailable` where the database is away; `FailedPrecondition` where it cannot be used as it is.
pub async fn open_store(config: &Config) -> Result<Arc<Store>> {
    let database = database_options(&config.database);
    match online_options(config) {
        Some(online) => stores::open_with_redis(&database, &online).await,
        None => stores::open(&database).await,
    }
}

/// Whether the configuration names an embedded store that no command has made yet.
pub fn embedded_store_is_missing(config: &Config) -> bool {
    config
        .database
        .url
        .reveal()
        .strip_prefix("sqlite:")
        .is_some_and(|path| !Path::new(path.strip_prefix("//").unwrap_or(path)).exists())
}

/// How Redis is used; none where features are read from the database.
fn online_options(config: &Config) -> Option<OnlineOptions> {
    let online: &OnlineConfig = &config.online;
    if online.redis_urls.is_empty() {
        return None;
    }
    let mut options = OnlineOptions::new(online.redis_urls.clone());
    options.cluster = online.redis_cluster;
    options.ca_file.clone_from(&online.ca_file);
    options.key_prefix.clone_from(&online.key_prefix);
    options.connections_max = online.connections_max;
    options.pipeline_max = online.pipeline_max;
    options.connect_timeout = online.connect_max;
    options.command_timeout = online.command_max;
    options.probe_interval = online.probe_interval;
    // A load or a refill that read a row before it was deleted brings it at its end at the latest.
    options.deleted_for = config.database.load_max * 2;
    Some(options)
}

/// Brings the schema up to date, or checks that it is, as the configuration says.
///
/// # Errors
/// `FailedPrecondition` where the schema is not what this binary knows and may not be changed.
pub async fn prepare_schema(store: &Store, database: &DatabaseConfig) -> Result<()> {
    if database.migrate_at_start {
        for name in store.migrate().await? {
            tracing::info!(name, "migrated");
        }
    }
    store.check_schema().await
}

/// Loads and checks the models of the configuration's repository against a catalog, with nothing released. What comes from
/// elsewhere is fetched anew, into a folder that is gone afterwards.
///
/// # Errors
/// `FailedPrecondition` where the runtime or the folder is not there. A model that fails its checks is no error here: it
/// is in the result with its reason.
pub async fn load_models(config: &Config, catalog: &Catalog) -> Result<Models> {
    let folder = tempfile::tempdir().map_err(|fault| {
        Error::unavailable("there is no folder to fetch into").with_source(fault)
    })?;
    let mut config = config.clone();
    config.artifacts.cache_dir = folder.path().to_path_buf();
    let repository = repository(&config)?;
    let wanted = repository.wanted(&Models::new())?;
    repository.mirror.sync_all(wanted).await;
    repository.load(&Known {
        catalog,
        releases: &Releases::new(),
        previous: &Models::new(),
        again: None,
    })
}

fn allowed_hosts(config: &Config) -> Result<AllowedHosts> {
    AllowedHosts::parse(&config.artifacts.allowed_hosts)
        .map_err(|why| Error::invalid("artifacts.allowed_hosts", why))
}

/// The tracking server, where one is set. The environment may name a database of MLflow's in its place, for others than us.
fn mlflow_server(config: &Config) -> Option<Result<MlflowServer, String>> {
    let mlflow = &config.mlflow;
    let is_set = !mlflow.tracking_uri.reveal().is_empty();
    is_set.then(|| {
        MlflowServer::new(
            &mlflow.tracking_uri,
            mlflow.username.clone(),
            mlflow.password.clone(),
            mlflow.token.clone(),
        )
    })
}

fn mirror(config: &Config) -> Result<Mirror> {
    let artifacts = &config.artifacts;
    let sources = ArtifactSources::new(ArtifactOptions {
        mlflow: mlflow_server(config),
        allowed_hosts: allowed_hosts(config)?,
        environment: artifacts.environment.clone(),
        aws_credentials_file: artifacts.aws_credentials_file.clone(),
        aws_config_file: artifacts.aws_config_file.clone(),
        request_max: artifacts.request_max,
    })?;
    let options = MirrorOptions {
        folder: artifacts.cache_dir.clone(),
        poll_interval: artifacts.poll_interval,
        fetch_max: artifacts.fetch_max,
        file_bytes_max: u64::try_from(config.models.file_bytes_max).unwrap_or(u64::MAX),
        version_bytes_max: artifacts.version_bytes_max,
        versions_max: artifacts.versions_max,
    };
    Ok(Mirror::new(options, Arc::new(sources)))
}

fn repository(config: &Config) -> Result<Repository> {
    let models = &config.models;
    let onnx = OnnxLoader::open(models.onnx_library_path.as_deref(), models.nodes_max)?;
    let loaders: Vec<Arc<dyn RuntimeLoader>> =
        vec![Arc::new(onnx), Arc::new(CompiledLoader), lightgbm::loader()];
    Ok(Repository {
        path: models.path.clone(),
        loaders,
        mirror: Arc::new(mirror(config)?),
        options: LoadOptions {
            workers: models.workers,
            queue_max: models.queue_max,
            inline_max: models.inline_max,
            file_bytes_max: models.file_bytes_max,
            drift_window: models.drift_window,
        },
    })
}

/// Everything that answers requests.
pub(crate) struct App {
    catalog: Arc<CatalogHandle>,
    store: Arc<Store>,
    models: Arc<ModelRegistry>,
    lifecycle: Arc<Lifecycle>,
    online: Arc<dyn OnlineStore>,
    cache: Option<Arc<RowCache>>,
    predictor: Predictor,
    jobs: Jobs,
}

impl App {
    /// Opens the store and loads the models.
    ///
    /// # Errors
    /// As `open_store`, `prepare_schema` and `load_models`.
    pub(crate) async fn build(config: &Config) -> Result<App> {
        let store = open_store(config).await?;
        prepare_schema(&store, &config.database).await?;
        let catalog = store.load_catalog().await?;
        let catalog = Arc::new(CatalogHandle::new(catalog));
        let models = Arc::new(ModelRegistry::default());
        let settings = config.clone();
        // Opening a library takes its time, and a signal has to be heard meanwhile.
        let repository = tokio::task::spawn_blocking(move || repository(&settings))
            .await
            .map_err(|fault| Error::internal("opening the runtimes failed").with_source(fault))??;
        let releases: Arc<dyn ReleaseStore> = store.clone();
        let lifecycle = Lifecycle::new(
            repository,
            Arc::clone(&models),
            Arc::clone(&catalog),
            releases,
        );
        lifecycle.ask_sources(config.artifacts.start_max).await?;
        lifecycle.load().await?;
        let front = front::before(store.clone(), config);
        let cache = front.cache();
        let online: Arc<dyn OnlineStore> = Arc::new(front);
        let predictor = Predictor {
            values_max: config.limits.values_max,
            answer_bytes_max: config.server.answer_bytes_max,
            catalog: Arc::clone(&catalog),
            store: Arc::clone(&online),
            models: Arc::clone(&models),
            shadows: Shadows::start(shadow_options(&config.models))?,
            ledger: Ledger::start(store.clone(), ledger_options(&config.ledger)),
        };
        let job_store: Arc<dyn JobStore> = store.clone();
        let jobs = Jobs::new(job_store, predictor.clone(), job_options(&config.jobs));
        Ok(App {
            catalog,
            store,
            models,
            lifecycle: Arc::new(lifecycle),
            online,
            cache,
            predictor,
            jobs,
        })
    }

    /// The services with everything around them, as the listener and the gateway call them. Streams end with `stopping`.
    ///
    /// # Errors
    /// `Internal` where the descriptors do not decode.
    pub(crate) fn routes(
        &self,
        config: &Config,
        health: HealthServer<impl Health>,
        stopping: CancellationToken,
    ) -> Result<Routes> {
        let online = &self.online;
        let catalog_store: Arc<dyn CatalogStore> = self.store.clone();
        let limits = request_limits(config);
        let stream = StreamBounds {
            idle_max: config.server.stream_idle_max,
            stopping,
        };
        let bytes_max = config.server.message_bytes_max;
        let features = FeatureApi {
            catalog: Arc::clone(&self.catalog),
            catalog_store,
            store: Arc::clone(online),
            selections: Arc::default(),
            training_sets: Arc::new(training_set_maker(
                config,
                self.store.clone(),
                FileSources::within_repository(config),
            )),
            limits,
            stream: stream.clone(),
            loads: Loads {
                // Whoever may apply definitions from the network would otherwise read any file of this machine.
                materializer: Materializer::new(
                    Arc::clone(online),
                    Arc::new(FileSources::within_repository(config)),
                ),
                places: Arc::new(Semaphore::new(config.limits.materializations_max)),
            },
            scans: Scans::default(),
        };
        let predictions = PredictionApi {
            predictor: self.predictor.clone(),
            jobs: self.jobs.clone(),
            limits,
            stream,
            stream_at_once_max: config.server.stream_requests_max,
        };
        let models = ModelApi {
            models: Arc::clone(&self.models),
            lifecycle: Arc::clone(&self.lifecycle),
        };
        let services = Routes::new(health)
            .add_service(FeatureServiceServer::new(features).max_decoding_message_size(bytes_max))
            .add_service(
                PredictionServiceServer::new(predictions).max_decoding_message_size(bytes_max),
            )
            .add_service(ModelServiceServer::new(models).max_decoding_message_size(bytes_max));
        let bounds = Bounds {
            in_flight_max: config.server.requests_in_flight_max,
            request_max: config.server.request_max,
        };
        Ok(middleware::around(add_reflection(services)?, bounds))
    }

    /// What is told over HTTP without being asked for; none where no secret is set.
    pub(crate) fn webhooks(&self, config: &Config) -> Option<Router> {
        let secret = &config.mlflow.webhook_secret;
        let is_set = !secret.reveal().is_empty();
        is_set.then(|| webhooks::router(secret.clone(), Arc::clone(&self.lifecycle)))
    }

    pub(crate) fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    /// Follows what other processes apply, release and write, the files of the models, and where else they come from.
    pub(crate) fn watches(&self, config: &Config, stop: &CancellationToken) -> Vec<JoinHandle<()>> {
        let catalog = watch::catalog(
            Arc::clone(&self.store),
            Arc::clone(&self.catalog),
            config.database.catalog_interval,
            stop.clone(),
        );
        let models = watch::models(
            Arc::clone(&self.lifecycle),
            config.models.watch_interval,
            stop.clone(),
        );
        let releases = watch::releases(
            Arc::clone(&self.lifecycle),
            config.models.watch_interval,
            stop.clone(),
        );
        let sources = watch::sources(Arc::clone(&self.lifecycle), stop.clone());
        let mut watches = vec![
            tokio::spawn(catalog),
            tokio::spawn(models),
            tokio::spawn(releases),
            tokio::spawn(sources),
        ];
        if let (Some(cache), Some(stale_max)) = (&self.cache, config.cache.stale_max) {
            let (store, cache, stop) = (self.store(), Arc::clone(cache), stop.clone());
            watches.push(tokio::spawn(async move {
                store.follow(cache, stale_max, &stop).await;
            }));
        }
        watches
    }

    pub(crate) fn models(&self) -> Arc<Models> {
        self.models.snapshot()
    }

    /// Works on prediction jobs, and looks for those whose time is up, until the stop.
    pub(crate) fn work_on_jobs(
        &self,
        config: &Config,
        stop: &CancellationToken,
    ) -> Vec<JoinHandle<()>> {
        let workers = (0..config.jobs.workers).map(|number| {
            let worker = format!("{}#{number}", watch::process_name());
            tokio::spawn(inference::work(self.jobs.clone(), worker, stop.clone()))
        });
        let sweep = tokio::spawn(inference::sweep(self.jobs.clone(), stop.clone()));
        workers.chain([sweep]).collect()
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.predictor.ledger.clone()
    }
}

/// What makes training sets for the command line, whose user is trusted with this machine's files.
pub fn training_sets(config: &Config, store: Arc<Store>) -> TrainingSetMaker {
    training_set_maker(config, store, FileSources::of_repository(config))
}

fn training_set_maker(
    config: &Config,
    store: Arc<Store>,
    sources: FileSources,
) -> TrainingSetMaker {
    let historical = &config.historical;
    let options = TrainingSetOptions {
        program: historical.program.clone(),
        memory_bytes_max: historical.memory_bytes_max,
        work_dir: historical.work_dir.clone(),
        joins_max: historical.joins_max,
        timeout: historical.join_max,
    };
    TrainingSetMaker::new(store, Arc::new(sources), options)
}

/// Adds reflection in both versions: older grpcurl speaks only v1alpha.
fn add_reflection(services: Routes) -> Result<Routes> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that grpcurl can show what an error's details say.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let broken = |fault| Error::internal("the descriptors do not decode").with_source(fault);
    let v1 = builder().build_v1().map_err(broken)?;
    let v1alpha = builder().build_v1alpha().map_err(broken)?;
    Ok(services.add_service(v1).add_service(v1alpha))
}
