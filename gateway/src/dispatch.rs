//! One request to an rpc: find the route, read the body, build the message, call, answer.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Uri, header};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::body::read_body;
use crate::deadline::deadline;
use crate::edge::{RequestId, RouteLabel};
use crate::fault::{Fault, REQUEST_ID};
use crate::heavy::on_message;
use crate::rules::{Found, Route};
use crate::shared::Shared;
use crate::stream::{Framing, StreamState, call_fault, stream_response};
use crate::transcode::{answer_json, bind, body_message, encoded};

/// Headers that go on to the server as they are.
const FORWARDED: [HeaderName; 3] = [
    header::AUTHORIZATION,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A request whose route has been found.
struct Call<'a> {
    shared: &'a Shared,
    route: &'a Arc<Route>,
    captured: Vec<Vec<&'a str>>,
    query: &'a str,
    alias_body: Option<Vec<u8>>,
    headers: &'a HeaderMap,
    peer: Option<SocketAddr>,
    request_id: &'a str,
    permit: OwnedSemaphorePermit,
}

/// Answers any request that is not for one of the gateway's own pages.
pub(crate) async fn dispatch(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let request_id = parts
        .extensions
        .get::<RequestId>()
        .map_or("", |id| id.0.as_str());
    let peer = parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map(|info| info.0);
    let mut label = None;
    let result = answer(
        &shared,
        &parts.method,
        &parts.uri,
        &parts.headers,
        peer,
        request_id,
        body,
        &mut label,
    )
    .await;
    let mut response = result.unwrap_or_else(|fault| fault.into_response(request_id));
    if let Some(label) = label {
        response.extensions_mut().insert(RouteLabel(label));
    }
    response
}

#[expect(clippy::too_many_arguments, reason = "the parts of one request")]
async fn answer(
    shared: &Arc<Shared>,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    peer: Option<SocketAddr>,
    request_id: &str,
    body: Body,
    label: &mut Option<String>,
) -> Result<Response<Body>, Fault> {
    let alias = match shared.routes.find(method, uri.path()) {
        Found::Route(..) => None,
        Found::OtherMethods(_) | Found::Nothing => shared.aliases.find(method, uri.path()),
    };
    let (method, path) = match &alias {
        Some(alias) => (&alias.method, alias.path.as_str()),
        None => (method, uri.path()),
    };
    let (route, captured) = match shared.routes.find(method, path) {
        Found::Route(route, captured) => (route, captured),
        Found::OtherMethods(methods) => return Err(wrong_method(shared, method, path, &methods)),
        Found::Nothing => return Err(wrong_method(shared, method, path, "")),
    };
    let alias_label = alias.as_ref().map(|alias| alias.label.clone());
    *label = Some(alias_label.unwrap_or_else(|| route.template.text().to_owned()));
    let Ok(permit) = Arc::clone(&shared.places).try_acquire_owned() else {
        return Err(Fault::overloaded());
    };
    let call = Call {
        shared,
        route,
        captured,
        query: uri.query().unwrap_or_default(),
        alias_body: alias.as_ref().and_then(|alias| alias.body.clone()),
        headers,
        peer,
        request_id,
        permit,
    };
    call.run(body).await
}

/// 405 with what the path takes, or 404 where nothing is there.
fn wrong_method(shared: &Shared, method: &Method, path: &str, methods: &str) -> Fault {
    let mut allow = shared.aliases.methods_at(path);
    allow.extend(
        methods
            .split(", ")
            .filter(|text| !text.is_empty())
            .map(str::to_owned),
    );
    if shared.own_paths.contains(&path) {
        allow.push("GET".to_owned());
    }
    if allow.is_empty() {
        return Fault::no_route(method.as_str(), path);
    }
    allow.sort_unstable();
    allow.dedup();
    Fault::method_not_allowed(method.as_str(), path, allow.join(", "))
}

impl Call<'_> {
    async fn run(self, body: Body) -> Result<Response<Body>, Fault> {
        let config = &self.shared.config;
        let is_stream = self.route.rpc.is_server_streaming();
        let deadline = deadline(self.headers, config, is_stream)?;
        let read = read_body(body, self.headers, config.request_bytes_max);
        let body = timeout_at(deadline, read)
            .await
            .map_err(|_| Fault::deadline())??;
        let body = self.alias_body.clone().map_or(body, Bytes::from);
        let (bytes, depth_max) = (body.len(), config.json_depth_max);
        let route = Arc::clone(self.route);
        let read = move || body_message(&route, &body, depth_max);
        let mut message = on_message(&self.shared.heavy_places, bytes, deadline, read).await?;
        bind(self.route, self.query, &self.captured, &mut message)?;
        let encode = move || Ok(encoded(&message));
        let message = on_message(&self.shared.heavy_places, bytes, deadline, encode).await?;
        let request = self.grpc_request(message, deadline)?;
        if is_stream {
            self.stream(request, deadline).await
        } else {
            self.unary(request, deadline).await
        }
    }

    async fn unary(
        self,
        request: tonic::Request<Bytes>,
        deadline: Instant,
    ) -> Result<Response<Body>, Fault> {
        let path = self.route.grpc_path.clone();
        let call = self
            .shared
            .backend
            .unary(request, path, self.shared.config.response_bytes_max);
        let answer = timeout_at(deadline, call)
            .await
            .map_err(|_| Fault::deadline())?
            .map_err(|status| self.fault(&status, deadline))?;
        let (bytes, route) = (answer.len(), Arc::clone(self.route));
        let write = move || answer_json(&route, answer);
        let json = on_message(&self.shared.heavy_places, bytes, deadline, write).await?;
        let mut response = Response::new(Body::from(json));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        Ok(response)
    }

    async fn stream(
        self,
        request: tonic::Request<Bytes>,
        deadline: Instant,
    ) -> Result<Response<Body>, Fault> {
        let config = &self.shared.config;
        let path = self.route.grpc_path.clone();
        let call = self
            .shared
            .backend
            .server_stream(request, path, config.response_bytes_max);
        let messages = timeout_at(deadline, call)
            .await
            .map_err(|_| Fault::deadline())?
            .map_err(|status| self.fault(&status, deadline))?;
        Ok(stream_response(StreamState {
            messages,
            route: Arc::clone(self.route),
            deadline,
            keep_alive: config.stream_keep_alive,
            bytes_max: config.response_bytes_max,
            framing: Framing::from_headers(self.headers),
            request_id: self.request_id.to_owned(),
            pool: self.shared.detail_types.clone(),
            permit: self.permit,
        }))
    }

    fn fault(&self, status: &Status, deadline: Instant) -> Fault {
        let bytes_max = self.shared.config.response_bytes_max;
        call_fault(status, deadline, bytes_max, &self.shared.detail_types)
    }

    /// The gRPC request: message, deadline, and the headers that go on.
    fn grpc_request(
        &self,
        message: Bytes,
        deadline: Instant,
    ) -> Result<tonic::Request<Bytes>, Fault> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Fault::deadline());
        }
        let mut headers = HeaderMap::new();
        for name in FORWARDED {
            for value in self.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        if let Some(value) = self.forwarded_for() {
            headers.insert(FORWARDED_FOR, value);
        }
        if let Ok(value) = HeaderValue::from_str(self.request_id) {
            headers.insert(REQUEST_ID, value);
        }
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        request.set_timeout(left);
        Ok(request)
    }

    /// The addresses that the request came through, this connection's at the end.
    fn forwarded_for(&self) -> Option<HeaderValue> {
        let before = self.headers.get_all(&FORWARDED_FOR).iter();
        let mut addresses: Vec<String> = before
            .filter_map(|value| value.to_str().ok())
            .map(str::to_owned)
            .collect();
        addresses.extend(self.peer.map(|peer| peer.ip().to_string()));
        if addresses.is_empty() {
            return None;
        }
        HeaderValue::from_str(&addresses.join(", ")).ok()
    }
}
