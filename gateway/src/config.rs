//! What a gateway can be told: names, bounds, allow-lists. It reads no environment; its callers do.

use std::time::Duration;

use crate::alias::Alias;

/// Configures a [`crate::Gateway`]; every bound has a name here.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The title of the OpenAPI document and of the documentation pages.
    pub title: String,
    /// The version that the OpenAPI document states.
    pub version: String,
    /// A text for the head of the OpenAPI document, in Markdown; may be empty.
    pub description: String,
    /// The web origins that browsers may call from, as `https://app.example.com`; `*` is any; none by default.
    /// Cookies are never allowed, so `*` gives away nothing.
    pub cors_allowed_origins: Vec<String>,
    /// The largest request body in bytes; a larger one is answered with 413.
    pub request_bytes_max: usize,
    /// The largest gRPC message that is taken from the server, in bytes.
    pub response_bytes_max: usize,
    /// How deep a JSON body may be nested. At most 30: protobuf decoders stop at 100 levels, and one object of a
    /// `google.protobuf.Struct` costs three of them.
    pub json_depth_max: usize,
    /// How many requests, streams among them, are under way at once; one more is answered with 429.
    pub requests_max: usize,
    /// The deadline of a call whose caller gives none.
    pub request_timeout: Duration,
    /// The longest deadline that a caller can ask for; a longer one is lowered to this.
    pub request_timeout_max: Duration,
    /// The deadline of a server stream whose caller gives none.
    pub stream_timeout: Duration,
    /// How often an idle server-sent event stream gets a comment, so that proxies keep it open.
    pub stream_keep_alive: Duration,
    /// How long `/health/ready` waits for the server's answer.
    pub ready_timeout: Duration,
    /// Old URLs that lead to an rpc's route.
    pub aliases: Vec<Alias>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            title: "gRPC gateway".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: String::new(),
            cors_allowed_origins: Vec::new(),
            request_bytes_max: 8 << 20,
            response_bytes_max: 32 << 20,
            json_depth_max: JSON_DEPTH_LIMIT,
            requests_max: 1024,
            request_timeout: Duration::from_secs(30),
            request_timeout_max: Duration::from_secs(600),
            stream_timeout: Duration::from_secs(3600),
            stream_keep_alive: Duration::from_secs(15),
            ready_timeout: Duration::from_secs(2),
            aliases: Vec::new(),
        }
    }
}

/// The deepest nesting that every protobuf decoder still takes: (100 - 2) / 3 levels, and some left over.
pub(crate) const JSON_DEPTH_LIMIT: usize = 30;
