//! Where to listen, and how much to take on: its section of the configuration.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use super::{bytes, count, layers::Layers, millis, threads};

/// Where to listen, and how much to take on.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where gRPC is served.
    pub grpc_addr: SocketAddr,
    /// Where REST is served; none: nowhere.
    pub http_addr: Option<SocketAddr>,
    /// Threads that answer requests.
    pub threads: usize,
    /// Where the embedded store is kept.
    pub data_dir: PathBuf,
    /// The largest request message, bytes.
    pub message_bytes_max: usize,
    /// The largest answer, bytes: of the values that it reads, and of the message that the REST gateway passes on.
    pub answer_bytes_max: usize,
    /// Connections open at once on a listener.
    pub connections_max: usize,
    /// Requests answered at once.
    pub requests_in_flight_max: usize,
    /// How long a request may take.
    pub request_max: Duration,
    /// How long a stream of writes may be without a batch.
    pub stream_idle_max: Duration,
    /// Requests of one stream of predictions that are scored at once.
    pub stream_requests_max: usize,
    /// How often the store is asked whether it answers.
    pub health_interval: Duration,
    /// How long a stop waits for running requests.
    pub drain_max: Duration,
    /// How long a stop goes on answering after health says NOT_SERVING.
    pub drain_delay: Duration,
}

/// Reads the section.
pub(super) fn read(layers: &mut Layers) -> ServerConfig {
    let data_dir = PathBuf::from(layers.text("server.data_dir").unwrap_or_default());
    if data_dir.as_os_str().is_empty() {
        layers.fault("server.data_dir", "is empty");
    }
    let http_is_off = layers.text("server.http_addr").as_deref() == Some("off");
    ServerConfig {
        grpc_addr: address(layers, "server.grpc_addr"),
        http_addr: (!http_is_off).then(|| address(layers, "server.http_addr")),
        threads: threads(layers, "server.threads"),
        data_dir,
        message_bytes_max: bytes(layers, "server.message_bytes_max"),
        answer_bytes_max: bytes(layers, "server.answer_bytes_max"),
        connections_max: count(layers, "server.connections_max"),
        requests_in_flight_max: count(layers, "server.requests_in_flight_max"),
        request_max: millis(layers, "server.request_ms_max", 1),
        stream_idle_max: millis(layers, "server.stream_idle_ms_max", 1),
        stream_requests_max: count(layers, "server.stream_requests_max"),
        health_interval: millis(layers, "server.health_interval_ms", 100),
        drain_max: millis(layers, "server.drain_ms_max", 0),
        drain_delay: millis(layers, "server.drain_delay_ms", 0),
    }
}

/// A socket address that has a default, as `Layers::parse` asks.
struct Address(SocketAddr);

impl Default for Address {
    fn default() -> Self {
        Address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }
}

impl FromStr for Address {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let text = text.replace("localhost:", "127.0.0.1:");
        text.parse().map(Address)
    }
}

fn address(layers: &mut Layers, key: &'static str) -> SocketAddr {
    let Address(address) = layers.parse(key, |_| true, "an address and port, as 127.0.0.1:50051");
    address
}
