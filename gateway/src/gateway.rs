//! Puts a gateway together: checks the configuration, reads the routes, and makes the router.

use std::sync::Arc;
use std::thread;

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn;
use axum::routing::{MethodRouter, get};
use http::{HeaderName, HeaderValue, Method, header};
use prost_reflect::DescriptorPool;
use tokio::sync::Semaphore;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::alias::AliasTable;
use crate::backend::Backend;
use crate::config::{GatewayConfig, JSON_DEPTH_LIMIT};
use crate::dispatch::dispatch;
use crate::docs::{Pages, redirect_to_docs};
use crate::edge::observe;
use crate::error::GatewayError;
use crate::fault::REQUEST_ID;
use crate::health::{live, ready};
use crate::openapi;
use crate::rules::RouteTable;
use crate::shared::{OWN_PATHS, Shared};

/// A REST gateway before one gRPC server.
#[derive(Clone, Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    openapi: Arc<serde_json::Value>,
}

impl Gateway {
    /// Builds a gateway from the server's descriptors.
    ///
    /// # Errors
    /// Every fault that would otherwise show at the first request: in the annotations, with the rpc's name, in the
    /// aliases and in the configuration.
    pub fn build(
        config: GatewayConfig,
        pool: DescriptorPool,
        backend: Backend,
    ) -> Result<Self, GatewayError> {
        check(&config)?;
        let routes = RouteTable::build(&pool)?;
        let aliases = AliasTable::build(&config.aliases, &routes)?;
        let openapi = openapi::document(&config, &routes);
        let own_paths = OWN_PATHS
            .into_iter()
            .filter(|path| !routes.has_page(path))
            .collect();
        let shared = Shared {
            pages: Pages::new(&config.title, &openapi),
            heavy_places: Semaphore::new(thread::available_parallelism().map_or(1, usize::from)),
            places: Arc::new(Semaphore::new(config.requests_max)),
            detail_types: detail_types(pool),
            routes,
            aliases,
            backend,
            own_paths,
            config,
        };
        Ok(Self {
            shared: Arc::new(shared),
            openapi: Arc::new(openapi),
        })
    }

    /// Builds a gateway from an encoded `google.protobuf.FileDescriptorSet`, with its source info where the OpenAPI
    /// document is to have the comments.
    ///
    /// The bytes must be as the compiler wrote them: a set that went through `prost_types::FileDescriptorSet` has lost
    /// its annotations.
    ///
    /// # Errors
    /// As [`Gateway::build`], and where the bytes are no descriptor set.
    pub fn from_descriptor_set(
        config: GatewayConfig,
        bytes: &[u8],
        backend: Backend,
    ) -> Result<Self, GatewayError> {
        let pool = DescriptorPool::decode(bytes)
            .map_err(|error| GatewayError::Descriptors(error.to_string()))?;
        Self::build(config, pool, backend)
    }

    /// The OpenAPI 3.1 document; the same descriptors give the same document.
    pub fn openapi(&self) -> serde_json::Value {
        self.openapi.as_ref().clone()
    }

    /// The method and path template of every route, in the order in which they are tried.
    pub fn routes(&self) -> Vec<(String, String)> {
        let routes = self.shared.routes.routes().iter();
        routes
            .map(|route| (route.method.to_string(), route.template.text().to_owned()))
            .collect()
    }

    /// The router: the rpcs' routes, health, and the pages. Where it is served with connect info
    /// (`axum::extract::ConnectInfo<SocketAddr>`, as [`crate::serve`] does), the caller's address goes on to the server.
    pub fn router(&self) -> Router {
        let mut router = Router::new();
        for path in &self.shared.own_paths {
            router = router.route(path, own_page(path));
        }
        let mut router = router
            .fallback(dispatch)
            .method_not_allowed_fallback(dispatch);
        if let Some(cors) = cors_layer(&self.shared.config) {
            router = router.layer(cors);
        }
        router
            .layer(from_fn(observe))
            .with_state(Arc::clone(&self.shared))
    }
}

fn own_page(path: &str) -> MethodRouter<Arc<Shared>> {
    type Page = State<Arc<Shared>>;
    match path {
        "/docs" => get(|State(shared): Page| async move { shared.pages.swagger() }),
        "/redoc" => get(|State(shared): Page| async move { shared.pages.redoc() }),
        "/openapi.json" => get(|State(shared): Page| async move { shared.pages.openapi() }),
        "/health" | "/healthcheck" | "/health/live" => get(live),
        "/health/ready" => get(ready),
        _ => get(|| async { redirect_to_docs() }),
    }
}

fn check(config: &GatewayConfig) -> Result<(), GatewayError> {
    let fault = |name, reason: String| Err(GatewayError::Config { name, reason });
    if config.json_depth_max > JSON_DEPTH_LIMIT {
        return fault(
            "json_depth_max",
            format!("at most {JSON_DEPTH_LIMIT}, not {}", config.json_depth_max),
        );
    }
    if config.requests_max == 0 || config.requests_max > Semaphore::MAX_PERMITS {
        return fault(
            "requests_max",
            format!(
                "1 to {}, not {}",
                Semaphore::MAX_PERMITS,
                config.requests_max
            ),
        );
    }
    for origin in &config.cors_allowed_origins {
        let is_origin = origin == "*"
            || origin.parse::<http::Uri>().is_ok_and(|uri| {
                uri.scheme().is_some()
                    && uri.authority().is_some()
                    && !origin.ends_with('/')
                    && uri.path() == "/"
            });
        if !is_origin {
            return fault(
                "cors_allowed_origins",
                format!("{origin:?} is not an origin, as https://app.example.com"),
            );
        }
    }
    Ok(())
}

/// CORS for the allowed origins; nothing at all where there are none. Credentials (cookies) are never allowed.
fn cors_layer(config: &GatewayConfig) -> Option<CorsLayer> {
    let origins = &config.cors_allowed_origins;
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(
            origins
                .iter()
                .filter_map(|origin| HeaderValue::from_str(origin).ok()),
        )
    };
    let methods = [
        Method::GET,
        Method::PUT,
        Method::POST,
        Method::DELETE,
        Method::PATCH,
    ];
    let request_headers = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::ACCEPT,
        REQUEST_ID,
        HeaderName::from_static("grpc-timeout"),
        HeaderName::from_static("traceparent"),
        HeaderName::from_static("tracestate"),
    ];
    Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods(methods)
            .allow_headers(request_headers)
            .expose_headers([REQUEST_ID, header::RETRY_AFTER])
            .max_age(std::time::Duration::from_secs(3600)),
    )
}

/// The server's types with those of `google.rpc` added, which servers rarely describe.
fn detail_types(pool: DescriptorPool) -> DescriptorPool {
    let mut all = pool.clone();
    match all.decode_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET) {
        Ok(()) => all,
        Err(_) => pool,
    }
}
