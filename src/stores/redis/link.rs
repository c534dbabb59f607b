//! Connections: a few to one server, or to every node of a cluster, each shared by many requests at once and made anew
//! when it breaks. Every wait has a bound.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    Pipeline, TlsCertificates, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    cluster_routing::{
        MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr,
    },
    io::tcp::TcpSettings,
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

use super::{OnlineOptions, fault::Fault, owners::Owners};
use crate::error::{Error, Result};

/// How often a command is sent anew because its connection broke: all of ours can be repeated.
const ATTEMPTS_MAX: u32 = 2;

/// How old a cluster's connection is before it is made anew: it mends itself, but for a node that hangs and is not asked
/// any more where the others see another one in its place.
const CLUSTER_AGE_MIN: Duration = Duration::from_secs(5);

/// Pauses between attempts in a cluster that is busy with itself, ms.
const CLUSTER_PAUSE_MS_MIN: u64 = 10;
const CLUSTER_PAUSE_MS_MAX: u64 = 200;
const CLUSTER_ATTEMPTS_MAX: u32 = 16;

/// Connections to Redis.
pub(super) struct Link {
    target: Target,
    places: Vec<Place>,
    next: AtomicUsize,
    owners: Owners,
    connect_timeout: Duration,
    command_timeout: Duration,
    address: String,
}

enum Target {
    Single(Box<Client>),
    Cluster(Box<ClusterClient>),
}

/// What is sent, and to whom.
#[derive(Clone, Copy)]
enum Request<'a> {
    /// To the node of its keys.
    Command(&'a Cmd),
    /// As is said.
    Routed(&'a Cmd, &'a RoutingInfo),
    /// To the node that owns a slot.
    AtSlot(&'a Pipeline, u16),
}

/// A connection that may have to be made yet.
#[derive(Default)]
struct Place {
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    /// Counts the connections of the place.
    number: u64,
    /// With the moment at which it was made.
    connection: Option<(Connection, Instant)>,
}

#[derive(Clone)]
enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    /// Reads the URLs; connects to nothing.
    ///
    /// # Errors
    /// `InvalidArgument` for a URL that makes no sense, `FailedPrecondition` for a certificate that cannot be read.
    pub(super) fn new(options: &OnlineOptions) -> Result<Link> {
        let nodes = nodes(options)?;
        let addresses: Vec<String> = nodes.iter().map(|node| address(node.addr())).collect();
        let certificates = certificates(options)?;
        let target = match nodes.as_slice() {
            [node] if !options.is_cluster() => {
                Target::Single(Box::new(single(node.clone(), certificates)?))
            }
            _ => Target::Cluster(Box::new(cluster(nodes, certificates, options)?)),
        };
        let places = (0..options.connections_max.max(1)).map(|_| Place::default());
        Ok(Link {
            target,
            places: places.collect(),
            next: AtomicUsize::new(0),
            owners: Owners::default(),
            connect_timeout: options.connect_timeout,
            command_timeout: options.command_timeout,
            address: addresses.join(", "),
        })
    }

    /// The servers' hosts and ports, for messages.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Whether the other side is a cluster.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.target, Target::Cluster(_))
    }

    /// Sends a command to the node of its keys and waits for the answer.
    pub(super) async fn run(&self, command: &Cmd) -> Result<Value, Fault> {
        self.send(Request::Command(command)).await
    }

    /// Sends a command to some node of a cluster.
    pub(super) async fn run_anywhere(&self, command: &Cmd) -> Result<Value, Fault> {
        let anywhere = RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary);
        self.send(Request::Routed(command, &anywhere)).await
    }

    /// Sends commands in one message to the node that owns a slot; returns their answers as an array.
    pub(super) async fn run_at_slot(&self, slot: u16, commands: &Pipeline) -> Result<Value, Fault> {
        self.send(Request::AtSlot(commands, slot)).await
    }

    /// What is known of a cluster's slots.
    pub(super) fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Sends a command to every node that owns keys; returns each one's name and answer.
    pub(super) async fn run_everywhere(
        &self,
        command: &Cmd,
    ) -> Result<Vec<(String, Value)>, Fault> {
        let everywhere = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        let answer = self.send(Request::Routed(command, &everywhere)).await?;
        let Value::Map(by_node) = answer else {
            return Ok(vec![(String::new(), answer)]);
        };
        let named = by_node.into_iter().map(|(name, answer)| {
            let name = redis::from_redis_value::<String>(name)?;
            Ok((name, answer))
        });
        let named: Result<Vec<_>, redis::ParsingError> = named.collect();
        named.map_err(|fault| Fault::Driver(fault.into()))
    }

    /// Sends a command to a node by the name that `run_everywhere` gave it.
    pub(super) async fn run_on(&self, node: &str, command: &Cmd) -> Result<Value, Fault> {
        let (host, port) = node.rsplit_once(':').unwrap_or((node, ""));
        let by_address = SingleNodeRoutingInfo::ByAddress {
            host: host.to_owned(),
            port: port.parse().unwrap_or_default(),
        };
        let by_address = RoutingInfo::SingleNode(by_address);
        self.send(Request::Routed(command, &by_address)).await
    }

    /// Sends a request within the bound, and once more on a fresh connection where that broke.
    async fn send(&self, request: Request<'_>) -> Result<Value, Fault> {
        let give_up_at = Instant::now() + self.command_timeout;
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let mut attempt = 1;
        loop {
            // There is one place at least; where the index ran over, the first.
            let place = self.places.get(turn % self.places.len().max(1));
            let Some(place) = place else {
                return Err(self.late());
            };
            let connected = timeout_at(give_up_at, self.connection(place)).await;
            let (number, connection) = connected.map_err(|_| self.late())??;
            let answer = match timeout_at(give_up_at, connection.send(request)).await {
                Ok(answer) => answer.and_then(Value::extract_error).map_err(Fault::Driver),
                Err(_) => Err(self.late()),
            };
            match answer {
                Err(fault) if fault.is_of_connection() => {
                    let is_fresh = place.discard(number).await;
                    if !is_fresh || attempt == ATTEMPTS_MAX || Instant::now() >= give_up_at {
                        return Err(fault);
                    }
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    fn late(&self) -> Fault {
        Fault::Timeout {
            limit: self.command_timeout,
            setting: "online.command_ms_max",
        }
    }

    /// The connection of a place and its number, made where there is none; others wait for it.
    async fn connection(&self, place: &Place) -> Result<(u64, Connection), Fault> {
        let mut current = place.current.lock().await;
        if let Some((connection, _)) = &current.connection {
            return Ok((current.number, connection.clone()));
        }
        let give_up_at = Instant::now() + self.connect_timeout;
        let made = timeout_at(give_up_at, self.connect()).await;
        let connection = made.map_err(|_| Fault::Timeout {
            limit: self.connect_timeout,
            setting: "online.connect_ms_max",
        })??;
        current.number += 1;
        current.connection = Some((connection.clone(), Instant::now()));
        Ok((current.number, connection))
    }

    async fn connect(&self) -> redis::RedisResult<Connection> {
        match &self.target {
            Target::Single(client) => {
                // The bounds are ours, around each command.
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(self.connect_timeout))
                    .set_response_timeout(None);
                let made = client.get_multiplexed_async_connection_with_config(&config);
                Box::pin(made).await.map(Connection::Single)
            }
            Target::Cluster(client) => {
                let made = client.get_async_connection();
                Box::pin(made).await.map(Connection::Cluster)
            }
        }
    }
}

impl Connection {
    async fn send(self, request: Request<'_>) -> redis::RedisResult<Value> {
        match (self, request) {
            (Connection::Single(mut single), Request::Command(command))
            | (Connection::Single(mut single), Request::Routed(command, _)) => {
                single.send_packed_command(command).await
            }
            (Connection::Single(mut single), Request::AtSlot(commands, _)) => {
                let count = commands.len();
                let answers = single.send_packed_commands(commands, 0, count).await;
                answers.map(Value::Array)
            }
            (Connection::Cluster(mut cluster), Request::Command(command)) => {
                cluster.req_packed_command(command).await
            }
            (Connection::Cluster(mut cluster), Request::Routed(command, routing)) => {
                cluster
                    .route_command(command.clone(), routing.clone())
                    .await
            }
            (Connection::Cluster(mut cluster), Request::AtSlot(commands, slot)) => {
                let route = Route::new(slot, SlotAddr::Master);
                let node = SingleNodeRoutingInfo::SpecificNode(route);
                let count = commands.len();
                let answers = cluster
                    .route_pipeline(commands.clone(), 0, count, node)
                    .await;
                answers.map(Value::Array)
            }
        }
    }
}

impl Place {
    /// Takes a broken connection out, unless somebody else has; says whether the next one is another.
    async fn discard(&self, number: u64) -> bool {
        let mut current = self.current.lock().await;
        if current.number != number {
            return true;
        }
        if let Some((Connection::Cluster(_), made_at)) = &current.connection
            && made_at.elapsed() < CLUSTER_AGE_MIN
        {
            return false;
        }
        current.connection = None;
        true
    }
}

/// The servers that the URLs name.
///
/// # Errors
/// `InvalidArgument`; no part of a URL is repeated: it may hold a password.
pub(super) fn nodes(options: &OnlineOptions) -> Result<Vec<ConnectionInfo>> {
    let mut nodes = Vec::with_capacity(options.urls.len());
    for (index, url) in options.urls.iter().enumerate() {
        let place = format!("URL {}", index + 1);
        let expected = "expected redis://[user:password@]host:port[/db] or rediss://…";
        let url = url.reveal();
        if !url.starts_with("redis://") && !url.starts_with("rediss://") {
            return Err(Error::invalid(place, expected));
        }
        let node = url
            .into_connection_info()
            .map_err(|_| Error::invalid(&place, expected))?;
        if options.is_cluster() && node.redis_settings().db() != 0 {
            return Err(Error::invalid(
                place,
                "a cluster has no other database than 0",
            ));
        }
        let settings = tcp_settings(node.tcp_settings().clone(), options.command_timeout);
        nodes.push(node.set_tcp_settings(settings));
    }
    match nodes.is_empty() {
        true => Err(Error::invalid("online", "no URL of a Redis is given")),
        false => Ok(nodes),
    }
}

/// A server that has gone without a word is noticed by what it does not acknowledge.
#[cfg(target_os = "linux")]
fn tcp_settings(settings: TcpSettings, silence_max: Duration) -> TcpSettings {
    settings.set_nodelay(true).set_user_timeout(silence_max)
}

#[cfg(not(target_os = "linux"))]
fn tcp_settings(settings: TcpSettings, _: Duration) -> TcpSettings {
    settings.set_nodelay(true)
}

fn address(address: &ConnectionAddr) -> String {
    match address {
        ConnectionAddr::Tcp(host, port) => format!("{host}:{port}"),
        ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
        ConnectionAddr::Unix(path) => path.display().to_string(),
        _ => "an unknown address".to_owned(),
    }
}

fn certificates(options: &OnlineOptions) -> Result<Option<TlsCertificates>> {
    let Some(path) = &options.ca_file else {
        return Ok(None);
    };
    let root_cert = fs::read(path).map_err(|fault| {
        let sentence = format!("the file {} cannot be read: {fault}", path.display());
        Error::failed_precondition(sentence).with_source(fault)
    })?;
    Ok(Some(TlsCertificates {
        client_tls: None,
        root_cert: Some(root_cert),
    }))
}

fn single(node: ConnectionInfo, certificates: Option<TlsCertificates>) -> Result<Client> {
    let place = address(node.addr());
    let is_tls = matches!(node.addr(), ConnectionAddr::TcpTls { .. });
    let made = match certificates.filter(|_| is_tls) {
        Some(certificates) => Client::build_with_tls(node, certificates),
        None => Client::open(node),
    };
    made.map_err(|fault| Fault::Driver(fault).at(&place))
}

fn cluster(
    nodes: Vec<ConnectionInfo>,
    certificates: Option<TlsCertificates>,
    options: &OnlineOptions,
) -> Result<ClusterClient> {
    let addresses: Vec<String> = nodes.iter().map(|node| address(node.addr())).collect();
    let settings = tcp_settings(TcpSettings::default(), options.command_timeout);
    let mut builder = ClusterClientBuilder::new(nodes)
        .connection_timeout(options.connect_timeout)
        .response_timeout(options.command_timeout)
        .retries(CLUSTER_ATTEMPTS_MAX)
        .min_retry_wait(CLUSTER_PAUSE_MS_MIN)
        .max_retry_wait(CLUSTER_PAUSE_MS_MAX)
        .tcp_settings(settings);
    if let Some(certificates) = certificates {
        builder = builder.certs(certificates);
    }
    let made = builder.build();
    made.map_err(|fault| Fault::Driver(fault).at(&addresses.join(", ")))
}
