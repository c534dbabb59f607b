//! The composition root: the only place that sees every other. Opens the store, loads the models, puts the services
//! together.

mod banner;
mod catalog_watch;
mod describe;
mod listener;
mod server;

use std::{path::Path, sync::Arc};

use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};

use self::catalog_watch::CatalogWatch;
use crate::{
    catalog::{Catalog, CatalogHandle, CatalogStore},
    config::{CacheConfig, Config, DatabaseConfig, OnlineConfig},
    error::{Error, Result, Violation},
    features::{CacheBounds, CachedStore, Materializer, OnlineStore},
    grpc::{
        DESCRIPTOR_SET, FeatureApi, Loads, ModelApi, PredictionApi, RequestLimits, Scans,
        StreamBounds,
        pb::{
            feature_service_server::FeatureServiceServer, model_service_server::ModelServiceServer,
            prediction_service_server::PredictionServiceServer,
        },
    },
    inference::{
        LoadOptions, ModelRegistry, Models, Predictor, Repository, RuntimeLoader, VersionState,
    },
    middleware::{self, Bounds},
    runtimes::onnx::OnnxLoader,
    sources::FileSources,
    stores::{self, DatabaseOptions, OnlineOptions, Store},
    telemetry,
    training_sets::{TrainingSetMaker, TrainingSetOptions},
};

pub use banner::banner;
pub use describe::view_json;
pub use server::Server;

/// What is wrong with settings that only those who use them can read: the log filter, the URLs of database and Redis, the
/// gateway's aliases and origins.
pub fn settings_faults(config: &Config) -> Vec<Violation> {
    let checked = [
        ("telemetry.log_filter", telemetry::check(&config.telemetry)),
        ("database.url", stores::check_url(&config.database.url)),
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

fn database_options(database: &DatabaseConfig) -> DatabaseOptions {
    let mut options = DatabaseOptions::new(database.url.clone());
    options.pool_size = database.connections_max;
    options.connect_timeout = database.connect_max;
    options.acquire_timeout = database.acquire_max;
    options.statement_timeout = database.statement_max;
    options.load_timeout = database.load_max;
    options
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

/// Loads and checks the models of the configuration's repository against a catalog.
///
/// # Errors
/// `FailedPrecondition` where the runtime or the folder is not there. A model that fails its checks is no error here: it
/// is in the result with its reason.
pub fn load_models(config: &Config, catalog: &Catalog) -> Result<Models> {
    let models = &config.models;
    let onnx = OnnxLoader::open(models.onnx_library_path.as_deref(), models.nodes_max)?;
    let loaders: Vec<Arc<dyn RuntimeLoader>> = vec![Arc::new(onnx)];
    let repository = Repository {
        path: models.path.clone(),
        loaders,
        options: LoadOptions {
            workers: models.workers,
            queue_max: models.queue_max,
            file_bytes_max: models.file_bytes_max,
        },
    };
    repository.load(catalog)
}

/// Everything that answers requests.
pub(crate) struct App {
    catalog: Arc<CatalogHandle>,
    store: Arc<Store>,
    models: Arc<ModelRegistry>,
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
        let (settings, known) = (config.clone(), catalog.clone());
        // Loading takes its time, and a signal has to be heard meanwhile.
        let models = tokio::task::spawn_blocking(move || load_models(&settings, &known))
            .await
            .map_err(|fault| Error::internal("loading the models failed").with_source(fault))??;
        log_models(&models);
        let registry = ModelRegistry::default();
        registry.replace(models);
        Ok(App {
            catalog: Arc::new(CatalogHandle::new(catalog)),
            store,
            models: Arc::new(registry),
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
        let online = cached(self.store.clone(), &config.cache);
        let catalog_store: Arc<dyn CatalogStore> = self.store.clone();
        let limits = request_limits(config);
        let bytes_max = config.server.message_bytes_max;
        let features = FeatureApi {
            catalog: Arc::clone(&self.catalog),
            catalog_store,
            store: Arc::clone(&online),
            training_sets: Arc::new(training_set_maker(
                config,
                self.store.clone(),
                FileSources::within_repository(config),
            )),
            limits,
            stream: StreamBounds {
                idle_max: config.server.stream_idle_max,
                stopping,
            },
            loads: Loads {
                // Whoever may apply definitions from the network would otherwise read any file of this machine.
                materializer: Materializer::new(
                    Arc::clone(&online),
                    Arc::new(FileSources::within_repository(config)),
                ),
                places: Arc::new(Semaphore::new(config.limits.materializations_max)),
            },
            scans: Scans::default(),
        };
        let predictions = PredictionApi {
            predictor: Predictor {
                values_max: limits.values_max,
                answer_bytes_max: limits.answer_bytes_max,
                catalog: Arc::clone(&self.catalog),
                store: online,
                models: Arc::clone(&self.models),
            },
            limits,
        };
        let models = ModelApi {
            models: Arc::clone(&self.models),
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

    pub(crate) fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    /// Follows what other processes apply.
    pub(crate) fn watch_catalog(&self, config: &Config, stop: CancellationToken) -> JoinHandle<()> {
        let watch = CatalogWatch {
            config: config.clone(),
            store: Arc::clone(&self.store),
            catalog: Arc::clone(&self.catalog),
            models: Arc::clone(&self.models),
        };
        tokio::spawn(watch.run(config.database.catalog_interval, stop))
    }

    pub(crate) fn models(&self) -> Arc<Models> {
        self.models.snapshot()
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

/// The store, with a cache before it where the configuration asks for one.
fn cached(store: Arc<dyn OnlineStore>, cache: &CacheConfig) -> Arc<dyn OnlineStore> {
    if cache.bytes_max == 0 {
        return store;
    }
    let bounds = CacheBounds {
        bytes_max: u64::try_from(cache.bytes_max).unwrap_or(u64::MAX),
        age_max: cache.age_max,
    };
    Arc::new(CachedStore::new(store, bounds))
}

fn request_limits(config: &Config) -> RequestLimits {
    let limits = &config.limits;
    RequestLimits {
        entities_max: limits.entities_max,
        features_max: limits.features_max,
        values_max: limits.values_max,
        definitions_bytes_max: limits.definitions_bytes_max,
        answer_bytes_max: config.server.answer_bytes_max,
    }
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

fn log_models(models: &Models) {
    for model in models.values() {
        let name = &model.name;
        if let Some(reason) = &model.reason {
            tracing::error!(model = name, reason, "model refused");
        }
        for version in &model.versions {
            let number = &version.version;
            match &version.state {
                VersionState::Ready(ready) => tracing::info!(
                    model = name,
                    version = number,
                    golden_rows = ready.golden_rows,
                    "model version ready"
                ),
                VersionState::Refused(reason) => tracing::error!(
                    model = name,
                    version = number,
                    reason,
                    "model version refused"
                ),
            }
        }
    }
}
