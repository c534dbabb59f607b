//! Start and stop: bind, build, answer; then health says no, running requests end, everything closes.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use ferrocast_gateway::{Alias, AliasParseError, Backend, Gateway, GatewayConfig, ServeLimits};
use tokio::{net::TcpListener, task::JoinHandle, time};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{App, connections};
use crate::{
    config::{self as settings, Config},
    error::{Error, Result, Violation},
    features::OnlineStore,
    grpc::{DESCRIPTOR_SET, SERVICE_NAMES},
    inference::{Ledger, Models},
    memory,
    stores::Store,
};

/// Tasks have their own bounds at a stop; whoever exceeds them by so much hangs.
const DRAIN_SLACK: Duration = Duration::from_millis(500);

/// A running server.
pub struct Server {
    grpc_addr: SocketAddr,
    http_addr: Option<SocketAddr>,
    redis_address: Option<String>,
    models: Arc<Models>,
    ledger: Ledger,
    health: HealthReporter,
    stop: CancellationToken,
    /// Ends the watches on the store and its catalog, before health says NOT_SERVING for good.
    watch: CancellationToken,
    broke_off: CancellationToken,
    connections_max: usize,
    tasks: Vec<JoinHandle<()>>,
    drain_delay: Duration,
    drain_max: Duration,
    all_drained: Arc<AtomicBool>,
}

impl Server {
    /// Binds, opens the store, loads the models, and answers.
    ///
    /// # Errors
    /// `FailedPrecondition` for a port in use or a gateway setting that does not fit; as `App::build`.
    pub async fn start(config: &Config) -> Result<Server> {
        // Bound first, so that a port in use fails at once; connections wait until there is something to answer.
        let grpc = bind("server.grpc_addr", config.server.grpc_addr).await?;
        let http = match config.server.http_addr {
            Some(address) => Some(bind("server.http_addr", address).await?),
            None => None,
        };
        let app = App::build(config).await?;
        let (health, health_service) = tonic_health::server::health_reporter();
        set_health(&health, ServingStatus::NotServing).await;
        let stop = CancellationToken::new();
        let routes = app.routes(config, health_service, stop.clone())?;

        let mut server = Server {
            grpc_addr: local_addr(&grpc)?,
            http_addr: http.as_ref().map(local_addr).transpose()?,
            redis_address: app.store().redis_address().map(str::to_owned),
            models: app.models(),
            ledger: app.ledger(),
            health,
            stop,
            watch: CancellationToken::new(),
            broke_off: CancellationToken::new(),
            connections_max: config.server.connections_max,
            tasks: Vec::new(),
            drain_delay: config.server.drain_delay,
            drain_max: config.server.drain_max,
            all_drained: Arc::new(AtomicBool::new(true)),
        };
        if let Some(listener) = http {
            let router = gateway(config, routes.clone())?.router();
            let router = match app.webhooks(config) {
                Some(webhooks) => router.merge(webhooks),
                None => router,
            };
            server.serve_http(listener, router);
        }
        server.serve_grpc(grpc, routes);
        server
            .watch_store(app.store(), config.server.health_interval)
            .await;
        server.tasks.extend(app.watches(config, &server.watch));
        // They give back what they have before the drain begins: another server goes on with it at once.
        server.tasks.extend(app.work_on_jobs(config, &server.watch));
        memory::give_back_start();
        Ok(server)
    }

    /// Where gRPC is served.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc_addr
    }

    /// Where REST is served.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// The Redis that features are read from, as host and port.
    pub fn redis_address(&self) -> Option<&str> {
        self.redis_address.as_deref()
    }

    /// The models as they were loaded at the start.
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// Waits until a listener breaks off by itself; a server that goes on as it should never does.
    pub async fn broke_off(&self) {
        self.broke_off.cancelled().await;
    }

    /// Stops: health says NOT_SERVING, then, after the configured delay, nothing new is taken and what runs may end
    /// within the configured time. Says whether all of it did. As much time again is for the ledger.
    pub async fn stop(self) -> bool {
        self.watch.cancel();
        set_health(&self.health, ServingStatus::NotServing).await;
        time::sleep(self.drain_delay).await;
        self.stop.cancel();
        let late = time::Instant::now() + self.drain_max + DRAIN_SLACK;
        for task in self.tasks {
            let is_drained = match time::timeout_at(late, task).await {
                Ok(Ok(())) => continue,
                Ok(Err(fault)) => {
                    tracing::error!(%fault, "a listener broke off");
                    false
                }
                Err(_) => {
                    tracing::warn!(
                        "something did not stop in its time, and is left behind (server.drain_ms_max)"
                    );
                    false
                }
            };
            self.all_drained.store(is_drained, Ordering::Relaxed);
        }
        // Last: what was answered until now is to be written. What is lost is logged.
        self.ledger.close(self.drain_max).await;
        self.all_drained.load(Ordering::Relaxed)
    }

    /// Tells in health whether the store answers, now and until the stop.
    async fn watch_store(&mut self, store: Arc<Store>, interval: Duration) {
        let stop = self.watch.clone();
        let health = self.health.clone();
        let mut was_there = tell_health(&health, store.ping().await).await;
        self.tasks.push(tokio::spawn(async move {
            while stop
                .run_until_cancelled(time::sleep(interval))
                .await
                .is_some()
            {
                let Some(answer) = stop.run_until_cancelled(store.ping()).await else {
                    return;
                };
                if answer.is_ok() == was_there {
                    continue;
                }
                if answer.is_ok() {
                    tracing::info!("the store answers again as it should");
                }
                was_there = tell_health(&health, answer).await;
            }
        }));
    }

    fn serve_grpc(&mut self, listener: TcpListener, routes: Routes) {
        let (stop, broke_off) = (self.stop.clone(), self.broke_off.clone());
        let (connections_max, drain_max) = (self.connections_max, self.drain_max);
        let all_drained = Arc::clone(&self.all_drained);
        self.tasks.push(tokio::spawn(async move {
            let serving =
                connections::serve(listener, routes, connections_max, stop.clone(), drain_max);
            if !serving.await {
                all_drained.store(false, Ordering::Relaxed);
            }
            if !stop.is_cancelled() {
                tracing::error!("the gRPC listener broke off");
                broke_off.cancel();
            }
        }));
    }

    fn serve_http(&mut self, listener: TcpListener, router: Router) {
        let stop = self.stop.clone();
        let limits = ServeLimits {
            connections_max: self.connections_max,
            drain_timeout: self.drain_max,
            ..ServeLimits::default()
        };
        let all_drained = Arc::clone(&self.all_drained);
        self.tasks.push(tokio::spawn(async move {
            let is_drained =
                ferrocast_gateway::serve(listener, router, limits, stop.cancelled_owned()).await;
            if !is_drained {
                all_drained.store(false, Ordering::Relaxed);
            }
        }));
    }
}

async fn bind(setting: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|fault| {
        Error::failed_precondition(format!(
            "{setting}: {address} cannot be listened on: {fault}"
        ))
    })
}

fn local_addr(listener: &TcpListener) -> Result<SocketAddr> {
    listener
        .local_addr()
        .map_err(|fault| Error::internal("a listener has no address").with_source(fault))
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    // The empty name is the server as a whole.
    for name in SERVICE_NAMES.into_iter().chain([""]) {
        health.set_service_status(name, status).await;
    }
}

/// Tells in health what the store answered, and whether that is good.
async fn tell_health(health: &HealthReporter, answer: Result<()>) -> bool {
    let Err(fault) = answer else {
        set_health(health, ServingStatus::Serving).await;
        return true;
    };
    tracing::warn!(%fault, "the store does not answer as it should");
    set_health(health, ServingStatus::NotServing).await;
    false
}

/// What is wrong with the gateway's settings, each alias by itself: without a server behind it.
pub(super) fn gateway_faults(settings: &settings::GatewayConfig) -> Vec<Violation> {
    let mut faults = Vec::new();
    let mut check = |field: &str, gateway_config: Result<GatewayConfig, String>| {
        let backend = Backend::in_process(Routes::default());
        let built = gateway_config.and_then(|gateway_config| {
            Gateway::from_descriptor_set(gateway_config, DESCRIPTOR_SET, backend)
                .map_err(|fault| fault.to_string())
        });
        if let Err(description) = built {
            faults.push(Violation {
                field: field.to_owned(),
                description,
            });
        }
    };
    for text in &settings.aliases {
        let alias: Result<Alias, String> = text
            .parse()
            .map_err(|fault: AliasParseError| fault.to_string());
        let only_alias = alias.map(|alias| GatewayConfig {
            aliases: vec![alias],
            ..GatewayConfig::default()
        });
        check("gateway.aliases", only_alias);
    }
    if !settings.cors_allowed_origins.is_empty() {
        let only_origins = GatewayConfig {
            cors_allowed_origins: settings.cors_allowed_origins.clone(),
            ..GatewayConfig::default()
        };
        check("gateway.cors_allowed_origins", Ok(only_origins));
    }
    faults
}

/// The gateway, calling the services in this process.
fn gateway(config: &Config, routes: Routes) -> Result<Gateway> {
    let aliases = config
        .gateway
        .aliases
        .iter()
        .map(|text| {
            text.parse::<Alias>()
                .map_err(|fault| Error::invalid("gateway.aliases", fault.to_string()))
        })
        .collect::<Result<_>>()?;
    let gateway_config = GatewayConfig {
        title: "Ferrocast".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: "Features and predictions by entity, from one server.".to_owned(),
        cors_allowed_origins: config.gateway.cors_allowed_origins.clone(),
        request_bytes_max: config.server.message_bytes_max,
        response_bytes_max: config.server.answer_bytes_max,
        requests_max: config.server.requests_in_flight_max,
        request_timeout: config.server.request_max,
        request_timeout_max: config.server.request_max,
        aliases,
        ..GatewayConfig::default()
    };
    Gateway::from_descriptor_set(gateway_config, DESCRIPTOR_SET, Backend::in_process(routes))
        .map_err(|fault| Error::invalid("gateway", fault.to_string()))
}
