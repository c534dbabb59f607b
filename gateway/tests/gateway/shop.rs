//! The server under the tests: tests/proto/shop.proto, compiled at run time and served over dynamic messages.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::OnceLock;

use axum::body::Body;
use axum::extract::Path;
use bytes::{Buf as _, BufMut as _, Bytes};
use ferrocast_gateway::{Backend, Gateway, GatewayConfig, ReflectionLimits, fetch_descriptors};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use serde_json::Value as Json;
use tokio_stream::{Stream, StreamExt as _};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::KeyAndValueRef;
use tonic::service::Routes;
use tonic::{Code, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::{ServiceExt as _, service_fn};

pub fn descriptor_set(file: &str) -> Vec<u8> {
    let mut compiler = protox::Compiler::new([
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proto"),
        concat!(env!("CARGO_MANIFEST_DIR"), "/../proto"),
    ])
    .unwrap();
    compiler.include_source_info(true).include_imports(true);
    compiler.open_file(file).unwrap();
    compiler.encode_file_descriptor_set()
}

pub fn pool() -> DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    let compile = || DescriptorPool::decode(descriptor_set("shop.proto").as_slice()).unwrap();
    POOL.get_or_init(compile).clone()
}

/// Which reflection the server has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reflection {
    V1,
    V1Alpha,
    None,
}

/// The server: shop, health, reflection.
pub struct Shop {
    pub routes: Routes,
    pub health: tonic_health::server::HealthReporter,
}

impl Shop {
    pub fn new(reflection: Reflection) -> Self {
        let router =
            axum::Router::new().route("/shop.v1.ShopService/{rpc}", axum::routing::post(shop_rpc));
        let (health, health_service) = tonic_health::server::health_reporter();
        let mut routes = Routes::from(
            router.fallback(|| async { Status::unimplemented("").into_http::<Body>() }),
        );
        routes = routes.add_service(health_service);
        let set = descriptor_set("shop.proto");
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(&set);
        routes = match reflection {
            Reflection::V1 => routes.add_service(builder.build_v1().unwrap()),
            Reflection::V1Alpha => routes.add_service(builder.build_v1alpha().unwrap()),
            Reflection::None => routes,
        };
        Self { routes, health }
    }

    /// Serves it on a free port; the URL.
    pub async fn listen(self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_routes(self.routes)
                .serve_with_incoming(incoming),
        );
        url
    }
}

pub fn in_process(config: GatewayConfig) -> Gateway {
    let shop = Shop::new(Reflection::None);
    Gateway::build(config, pool(), Backend::in_process(shop.routes)).unwrap()
}

/// The same gateway in process and over a socket, the latter by reflection.
pub async fn both(config: GatewayConfig) -> [Gateway; 2] {
    let url = Shop::new(Reflection::V1).listen().await;
    let channel = tonic::transport::Endpoint::from_shared(url)
        .unwrap()
        .connect_lazy();
    let pool = fetch_descriptors(channel.clone(), &ReflectionLimits::default())
        .await
        .unwrap();
    let remote = Gateway::build(config.clone(), pool, Backend::remote(channel)).unwrap();
    [in_process(config), remote]
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

pub fn request(method: &str, uri: &str) -> http::request::Builder {
    Request::builder()
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .uri(uri)
}

pub async fn send(gateway: &Gateway, request: Request<Body>) -> Answer {
    let response = gateway.router().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

pub async fn get(gateway: &Gateway, uri: &str) -> Answer {
    send(gateway, request("GET", uri).body(Body::empty()).unwrap()).await
}

pub async fn post(gateway: &Gateway, uri: &str, body: &str) -> Answer {
    let request = request("POST", uri).header("content-type", "application/json");
    send(gateway, request.body(Body::from(body.to_owned())).unwrap()).await
}

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

async fn shop_rpc(
    Path(rpc): Path<String>,
    request: Request<Body>,
) -> http::Response<tonic::body::Body> {
    let mut grpc = tonic::server::Grpc::new(RawCodec);
    if rpc == "Count" {
        let count = service_fn(|request: tonic::Request<Bytes>| async move { count(&request) });
        return grpc.server_streaming(count, request).await;
    }
    let unary = service_fn(move |request: tonic::Request<Bytes>| {
        let rpc = rpc.clone();
        async move {
            match rpc.as_str() {
                "Echo" => Ok(Response::new(echo(request))),
                "Fail" => Err(fail(&request)),
                "Hang" => std::future::pending().await,
                _ => Err(Status::unimplemented("no such rpc")),
            }
        }
    });
    grpc.unary(unary, request).await
}

fn decode(name: &str, bytes: &Bytes) -> DynamicMessage {
    DynamicMessage::decode(pool().get_message_by_name(name).unwrap(), bytes.clone()).unwrap()
}

/// The item itself; one named "metadata" comes back with the call's metadata as its row.
fn echo(request: tonic::Request<Bytes>) -> Bytes {
    let mut item = decode("shop.v1.Item", request.get_ref());
    if item.get_field_by_name("name").unwrap().as_str() != Some("metadata") {
        return request.into_inner();
    }
    let mut fields = serde_json::Map::new();
    for entry in request.metadata().iter() {
        if let KeyAndValueRef::Ascii(key, value) = entry {
            fields.insert(key.to_string(), Json::from(value.to_str().unwrap_or("?")));
        }
    }
    let descriptor = item
        .get_field_by_name("row")
        .unwrap()
        .as_message()
        .unwrap()
        .clone();
    let descriptor = prost_reflect::ReflectMessage::descriptor(&descriptor);
    let row = DynamicMessage::deserialize(descriptor, Json::Object(fields)).unwrap();
    item.set_field_by_name("row", Value::Message(row));
    item.encode_to_vec().into()
}

fn number(message: &DynamicMessage, field: &str) -> i32 {
    message.get_field_by_name(field).unwrap().as_i32().unwrap()
}

fn flag(message: &DynamicMessage, field: &str) -> bool {
    message.get_field_by_name(field).unwrap().as_bool().unwrap()
}

fn fail(request: &tonic::Request<Bytes>) -> Status {
    let asked = decode("shop.v1.FailRequest", request.get_ref());
    let code = Code::from(number(&asked, "code"));
    if !flag(&asked, "details") {
        return Status::new(code, "as asked – so");
    }
    let mut details = ErrorDetails::new();
    details
        .set_error_info("TOO_MANY", "shop", [("limit".to_owned(), "3".to_owned())])
        .add_bad_request_violation("rows[0].loan_id", "is missing")
        .set_retry_info(Some(std::time::Duration::from_millis(2100)))
        .set_request_info("r-1", "");
    Status::with_error_details(code, "as asked", details)
}

fn count(request: &tonic::Request<Bytes>) -> Result<Response<Messages>, Status> {
    let asked = decode("shop.v1.CountRequest", request.get_ref());
    let (up_to, fail_after) = (number(&asked, "up_to"), number(&asked, "fail_after"));
    if up_to < 0 {
        return Err(Status::out_of_range("only upwards"));
    }
    let forever = flag(&asked, "forever");
    let descriptor = pool().get_message_by_name("shop.v1.CountResponse").unwrap();
    let numbers = tokio_stream::iter(1..=up_to).map_while(move |number| {
        if fail_after > 0 && number > fail_after + 1 {
            return None;
        }
        if fail_after > 0 && number == fail_after + 1 {
            return Some(Err(Status::data_loss("lost count")));
        }
        let mut message = DynamicMessage::new(descriptor.clone());
        message.set_field_by_name("number", Value::I32(number));
        Some(Ok(Bytes::from(message.encode_to_vec())))
    });
    let messages: Messages = if forever {
        Box::pin(numbers.chain(futures_util::stream::pending()))
    } else {
        Box::pin(numbers)
    };
    Ok(Response::new(messages))
}

/// Leaves messages as they are.
#[derive(Clone, Copy)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }
}

/// Compile-time check that the in-process stack may be any tower service.
#[allow(dead_code)]
fn any_service_is_a_backend(routes: Routes) -> Backend {
    let layered = tower::ServiceBuilder::new()
        .map_request(|request: Request<tonic::body::Body>| request)
        .service(routes);
    let boxed: tower::util::BoxCloneSyncService<
        Request<tonic::body::Body>,
        http::Response<tonic::body::Body>,
        Infallible,
    > = tower::util::BoxCloneSyncService::new(layered);
    Backend::in_process(boxed)
}
