//! The program `ferrocast-gateway`: a REST gateway before a gRPC server that runs elsewhere. It reads the command line,
//! fetches the server's descriptors, and serves until it is told to stop.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use ferrocast_gateway::{
    Alias, Backend, Gateway, GatewayConfig, GatewayError, ReflectionLimits, ServeLimits,
    fetch_descriptors, serve,
};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tracing_subscriber::EnvFilter;

/// The exit code of a command line or configuration that makes no sense (EX_USAGE of sysexits.h).
const EXIT_USAGE: u8 = 64;
/// How long a connection to the server may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often an idle connection to the server is tried.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// The pause between two attempts to fetch the descriptors.
const ATTEMPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves any gRPC server's rpcs as REST, by their google.api.http annotations.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    /// The gRPC server; https:// uses TLS with the system's roots.
    #[arg(
        long,
        env = "GATEWAY_GRPC_URL",
        default_value = "http://127.0.0.1:50051"
    )]
    grpc_url: String,
    /// The address to serve HTTP on.
    #[arg(long, env = "GATEWAY_HTTP_ADDR", default_value = "127.0.0.1:8080")]
    http_addr: SocketAddr,
    /// An encoded FileDescriptorSet to use instead of asking the server's reflection.
    #[arg(long, env = "GATEWAY_DESCRIPTOR_SET", value_name = "FILE")]
    descriptor_set: Option<PathBuf>,
    /// A web origin that browsers may call from; may be given more than once, or with commas; * is any.
    #[arg(
        long,
        env = "GATEWAY_CORS_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    cors_origin: Vec<String>,
    /// An old URL that leads to an rpc's route; may be given more than once.
    #[arg(long, value_name = "METHOD /old -> METHOD /new")]
    alias: Vec<Alias>,
    /// The title of the documentation.
    #[arg(long, env = "GATEWAY_TITLE", default_value = "gRPC gateway")]
    title: String,
    /// The largest request body, in bytes.
    #[arg(long, env = "GATEWAY_REQUEST_BYTES_MAX", default_value_t = 8 << 20)]
    request_bytes_max: usize,
    /// The largest message that is taken from the server, in bytes.
    #[arg(long, env = "GATEWAY_RESPONSE_BYTES_MAX", default_value_t = 32 << 20)]
    response_bytes_max: usize,
    /// How many requests are under way at once; one more is answered with 429.
    #[arg(long, env = "GATEWAY_REQUESTS_MAX", default_value_t = 1024)]
    requests_max: usize,
    /// How many connections are open at once; more wait.
    #[arg(long, env = "GATEWAY_CONNECTIONS_MAX", default_value_t = 4096)]
    connections_max: usize,
    /// The deadline of a call whose caller gives none (grpc-timeout), in seconds.
    #[arg(long, env = "GATEWAY_REQUEST_TIMEOUT_S", default_value_t = 30)]
    request_timeout_s: u64,
    /// The deadline of a server stream whose caller gives none, in seconds.
    #[arg(long, env = "GATEWAY_STREAM_TIMEOUT_S", default_value_t = 3600)]
    stream_timeout_s: u64,
    /// How many times to ask for the descriptors, a second apart, while the server is away.
    #[arg(long, env = "GATEWAY_ATTEMPTS_MAX", default_value_t = 30)]
    attempts_max: u32,
    /// How long requests under way may take once the gateway is told to stop, in seconds.
    #[arg(long, env = "GATEWAY_DRAIN_TIMEOUT_S", default_value_t = 20)]
    drain_timeout_s: u64,
    /// What to log, as "info" or "gateway=debug,info".
    #[arg(long, env = "GATEWAY_LOG", default_value = "info", value_parser = log_filter)]
    log: String,
}

const EXAMPLES: &str = r#"Examples:
  ferrocast-gateway --grpc-url http://127.0.0.1:50051 --http-addr 0.0.0.0:8080
  ferrocast-gateway --cors-origin https://app.example.com
  ferrocast-gateway --descriptor-set api.binpb
  ferrocast-gateway --alias 'POST /predict -> POST /v1/models/next:predictByEntity'
  ferrocast-gateway --alias 'GET /predict/{user} -> POST /v1/models/next:predictByEntity -> {"entities":[{"user_id":"{user}"}]}'

Then open http://127.0.0.1:8080/docs"#;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    start_log(&cli.log);
    match Box::pin(run(cli)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(target: "gateway", "{error:#}");
            match error.downcast_ref() {
                Some(GatewayError::Config { .. } | GatewayError::Alias { .. }) => {
                    ExitCode::from(EXIT_USAGE)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Checks a log filter; one that says nothing would silence the log.
fn log_filter(text: &str) -> Result<String, String> {
    let checked = EnvFilter::try_new(text).map_err(|error| error.to_string());
    checked.map(|_| text.to_owned())
}

/// Lines for people on a terminal, JSON elsewhere.
fn start_log(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().flatten_event(true).init();
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("the signals cannot be listened to")?;
    // Bound first: a port that is taken should fail at once, not after the descriptors have come.
    let listener = TcpListener::bind(cli.http_addr)
        .await
        .with_context(|| format!("{} cannot be served on", cli.http_addr))?;
    let channel = channel(&cli.grpc_url)?;
    let gateway = tokio::select! {
        gateway = build(&cli, channel) => gateway?,
        () = signals.next() => return Ok(()),
    };
    for (method, path) in gateway.routes() {
        tracing::debug!(target: "gateway", method, path, "route");
    }
    let address = listener.local_addr()?;
    tracing::info!(target: "gateway", %address, grpc_url = cli.grpc_url, routes = gateway.routes().len(), "serving");
    let limits = ServeLimits {
        connections_max: cli.connections_max,
        drain_timeout: Duration::from_secs(cli.drain_timeout_s),
        ..ServeLimits::default()
    };
    let stop = async {
        signals.next().await;
        tracing::info!(target: "gateway", "stopping; a second signal ends it at once");
        tokio::spawn(async move {
            signals.next().await;
            std::process::exit(130);
        });
    };
    if !serve(listener, gateway.router(), limits, stop).await {
        tracing::warn!(target: "gateway", "requests were cut off at the drain deadline");
    }
    Ok(())
}

async fn build(cli: &Cli, channel: Channel) -> anyhow::Result<Gateway> {
    let config = GatewayConfig {
        title: cli.title.clone(),
        // An empty variable in a compose file means none.
        cors_allowed_origins: cli
            .cors_origin
            .iter()
            .filter(|origin| !origin.is_empty())
            .cloned()
            .collect(),
        request_bytes_max: cli.request_bytes_max,
        response_bytes_max: cli.response_bytes_max,
        requests_max: cli.requests_max,
        request_timeout: Duration::from_secs(cli.request_timeout_s),
        stream_timeout: Duration::from_secs(cli.stream_timeout_s),
        aliases: cli.alias.clone(),
        ..GatewayConfig::default()
    };
    if let Some(path) = &cli.descriptor_set {
        let bytes = tokio::fs::read(path)
            .await
            .with_context(|| format!("{} cannot be read", path.display()))?;
        return Ok(Gateway::from_descriptor_set(
            config,
            &bytes,
            Backend::remote(channel),
        )?);
    }
    let limits = ReflectionLimits::default();
    let mut attempt = 1;
    let pool = loop {
        match fetch_descriptors(channel.clone(), &limits).await {
            Ok(pool) => break pool,
            Err(error) if error.is_transient() && attempt < cli.attempts_max => {
                tracing::warn!(target: "gateway", %error, attempt, attempts_max = cli.attempts_max, "asking again");
                attempt += 1;
                tokio::time::sleep(ATTEMPT_PAUSE).await;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("no descriptors from {}", cli.grpc_url));
            }
        }
    };
    Ok(Gateway::build(config, pool, Backend::remote(channel))?)
}

fn channel(url: &str) -> anyhow::Result<Channel> {
    let mut endpoint = Endpoint::from_shared(url.to_owned())
        .with_context(|| format!("{url:?} is not a URL, as http://127.0.0.1:50051"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    if url.starts_with("https://") {
        endpoint = endpoint
            .tls_config(ClientTlsConfig::new().with_native_roots())
            .context("TLS cannot be set up")?;
    }
    Ok(endpoint.connect_lazy())
}

/// SIGTERM and Ctrl-C.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
