//! What only a gateway of its own does: reflection, and serving over a socket.

use std::time::Duration;

use bytes::Bytes;
use ferrocast_gateway::{
    GatewayConfig, ReflectionError, ReflectionLimits, ServeLimits, fetch_descriptors, serve,
};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tonic::transport::{Channel, Endpoint};

use crate::shop::{Reflection, Shop, in_process, request};

async fn channel(reflection: Reflection) -> Channel {
    Endpoint::from_shared(Shop::new(reflection).listen().await)
        .unwrap()
        .connect_lazy()
}

#[tokio::test]
async fn descriptors_come_by_either_reflection() {
    for reflection in [Reflection::V1, Reflection::V1Alpha] {
        let pool = fetch_descriptors(channel(reflection).await, &ReflectionLimits::default())
            .await
            .unwrap();
        let service = pool.get_service_by_name("shop.v1.ShopService").unwrap();
        let rpc = service.methods().next().unwrap();
        let extension = pool.get_extension_by_name("google.api.http").unwrap();
        assert!(rpc.options().has_extension(&extension));
    }
}

#[tokio::test]
async fn reflection_that_is_missing_away_or_too_much_is_told() {
    let limits = ReflectionLimits::default();
    let error = fetch_descriptors(channel(Reflection::None).await, &limits)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ReflectionError::Unsupported) && !error.is_transient(),
        "{error}"
    );
    let away = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
    let error = fetch_descriptors(away, &limits).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    for limits in [
        ReflectionLimits {
            services_max: 1,
            ..limits.clone()
        },
        ReflectionLimits {
            files_max: 2,
            ..limits.clone()
        },
        ReflectionLimits {
            bytes_max: 8000,
            ..limits.clone()
        },
    ] {
        let error = fetch_descriptors(channel(Reflection::V1).await, &limits)
            .await
            .unwrap_err();
        assert!(!error.is_transient(), "{error}");
    }
    // Accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let channel = Endpoint::from_shared(url).unwrap().connect_lazy();
    let limits = ReflectionLimits {
        timeout: Duration::from_millis(50),
        ..limits
    };
    let error = fetch_descriptors(channel, &limits).await.unwrap_err();
    assert!(matches!(error, ReflectionError::Timeout(_)), "{error}");
}

#[tokio::test]
async fn serving_ends_when_it_is_told_to_and_lets_requests_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let router = in_process(GatewayConfig::default()).router();
    let server = tokio::spawn(serve(listener, router, ServeLimits::default(), async {
        let _ = stopped.await;
    }));
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let get = request("GET", "/v1/items/metadata")
        .header("host", "x")
        .body(Full::<Bytes>::default())
        .unwrap();
    let answer = sender.send_request(get).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let item: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(item["row"]["x-forwarded-for"], "127.0.0.1");
    stop.send(()).unwrap();
    assert!(
        server.await.unwrap(),
        "an idle connection does not hold the stop up"
    );
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nothing new is taken"
    );
}

/// What the server sends until it closes the connections on which these bytes were sent and nothing after them.
async fn closed_after(sent: &[&[u8]]) -> Vec<Vec<u8>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = ServeLimits {
        connections_max: sent.len(),
        header_timeout: Duration::from_millis(20),
        ..ServeLimits::default()
    };
    let router = in_process(GatewayConfig::default()).router();
    tokio::spawn(serve(listener, router, limits, std::future::pending()));
    let mut streams = Vec::new();
    for bytes in sent {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        streams.push(stream);
    }
    let mut answers = Vec::new();
    for mut stream in streams {
        let mut answer = Vec::new();
        let closed = stream.read_to_end(&mut answer);
        let closed = tokio::time::timeout(Duration::from_secs(60), closed).await;
        let _ = closed.expect("the connection is closed");
        answers.push(answer);
    }
    answers
}

#[tokio::test]
async fn a_connection_that_sends_no_head_is_closed() {
    // Nothing, a part of a head, and parts of what HTTP/2 begins with.
    let sent: [&[u8]; 4] = [
        b"",
        b"GET / HTTP/1.1\r\nhost:",
        b"P",
        b"PRI * HTTP/2.0\r\n\r\nSM",
    ];
    for answer in closed_after(&sent).await {
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
}
