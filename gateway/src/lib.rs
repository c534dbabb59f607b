//! A REST gateway for any gRPC server.
//!
//! It owns the whole way between HTTP/JSON and gRPC: the routes of the `google.api.http` rules, the JSON mapping of
//! protobuf, errors, health, the OpenAPI document and its pages. It knows only descriptors: no generated type of the
//! server it stands before, and no other part of the project. A server embeds it with [`Gateway::build`] and
//! [`Gateway::router`], calling itself without a socket; the program `ferrocast-gateway` puts it before a server
//! elsewhere.
//!
//! One request's way: `edge` (request id, log) → `dispatch` (route, body, deadline) → `transcode` (JSON to protobuf) →
//! `backend` (the call) → `transcode` or `stream` (protobuf to JSON), with `fault` for every error.
//!
//! ```no_run
//! # use ferrocast_gateway::{Backend, Gateway, GatewayConfig, GatewayError};
//! # fn example(descriptor_set: &[u8], routes: tonic::service::Routes) -> Result<(), GatewayError> {
//! let backend = Backend::in_process(routes);
//! let gateway = Gateway::from_descriptor_set(GatewayConfig::default(), descriptor_set, backend)?;
//! let router: axum::Router = gateway.router();
//! # Ok(()) }
//! ```

mod alias;
mod backend;
mod body;
mod config;
mod deadline;
mod dispatch;
mod docs;
mod edge;
mod error;
mod fault;
mod gateway;
mod health;
mod heavy;
mod json;
mod openapi;
mod opening;
mod reflection;
mod rules;
mod serve;
mod shared;
mod stream;
mod transcode;

pub use alias::{Alias, AliasParseError};
pub use backend::Backend;
pub use config::GatewayConfig;
pub use error::GatewayError;
pub use gateway::Gateway;
pub use json::message_to_json;
pub use opening::Opening;
pub use reflection::{ReflectionError, ReflectionLimits, fetch_descriptors};
pub use serve::{ServeLimits, serve};
