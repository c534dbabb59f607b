//! The one HTTP client: TLS by the system's authorities, no redirects, a bound on every wait, allowed hosts alone.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use async_trait::async_trait;
use object_store::{
    ClientConfigKey, ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    },
};
use reqwest::{Client, Url, redirect};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::hosts::{AllowedHosts, Refused, is_link_local};
use crate::error::{Error, Result};

/// The longest sentence of another's that is passed on.
const SENTENCE_CHARS_MAX: usize = 500;

/// The client, and whom it may ask.
pub(super) struct Http {
    client: Client,
    hosts: AllowedHosts,
}

impl Http {
    pub(super) fn new(hosts: AllowedHosts, request_max: Duration) -> Result<Http> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls()?)
            .connect_timeout(request_max)
            .read_timeout(request_max)
            // Another host might not be allowed, and must not see what this one is sent.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("ferrocast/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|fault| {
                Error::internal("the HTTP client cannot be made").with_source(fault)
            })?;
        Ok(Http { client, hosts })
    }

    /// A GET of an allowed host; any answer is one.
    ///
    /// # Errors
    /// `FailedPrecondition` for a host that is not allowed; `Unavailable` where nobody answers.
    pub(super) async fn get(
        &self,
        url: Url,
        authorize: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response> {
        let host = url.host_str().unwrap_or_default();
        self.hosts
            .check(host, url.port_or_known_default())
            .map_err(|refused| Error::failed_precondition(refused.to_string()))?;
        let sent = authorize(self.client.get(url)).send().await;
        sent.map_err(|fault| away(fault.without_url()))
    }

    /// What asks on behalf of a library.
    pub(super) fn service(self: &Arc<Http>, allows_http: bool) -> Service {
        Service {
            http: Arc::clone(self),
            allows_http,
        }
    }

    /// As the clients of object stores want it.
    pub(super) fn connector(self: &Arc<Http>) -> Connector {
        Connector(Arc::clone(self))
    }
}

fn tls() -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|fault| Error::internal("TLS cannot be set up").with_source(fault))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Nobody answered, or not to the end.
pub(super) fn away(fault: impl StdError + Send + Sync + 'static) -> Error {
    Error::unavailable(format!("it does not answer: {}", chain(&fault))).with_source(fault)
}

/// An error with its causes, in one sentence.
pub(super) fn chain(fault: &(dyn StdError + 'static)) -> String {
    let mut sentence = fault.to_string();
    let mut cause = fault.source();
    while let Some(fault) = cause {
        let text = fault.to_string();
        // Many say what their cause says, too.
        if !sentence.contains(&text) {
            sentence = format!("{sentence}: {text}");
        }
        cause = fault.source();
    }
    shortened(&sentence)
}

/// The first characters of what another says, in one line.
pub(super) fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(SENTENCE_CHARS_MAX).collect()
}

/// The refusal among the causes of an error.
pub(super) fn refusal<'a>(fault: &'a (dyn StdError + 'static)) -> Option<&'a Refused> {
    let mut cause = Some(fault);
    while let Some(fault) = cause {
        if let Some(refused) = fault.downcast_ref() {
            return Some(refused);
        }
        cause = fault.source();
    }
    None
}

/// Gives object stores this client.
pub(super) struct Connector(Arc<Http>);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allows_http = options.get_config_value(&ClientConfigKey::AllowHttp);
        let allows_http = allows_http.as_deref() == Some("true");
        Ok(HttpClient::new(self.0.service(allows_http)))
    }
}

/// Asks allowed hosts, and without TLS only where that is allowed.
pub(super) struct Service {
    http: Arc<Http>,
    allows_http: bool,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Service")
    }
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.answer(request).await
    }
}

impl Service {
    /// Any answer is one.
    ///
    /// # Errors
    /// `Refused` among the causes where the request must not be sent.
    pub(super) async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let uri = request.uri();
        let host = uri.host().unwrap_or_default();
        let is_clear = uri.scheme_str() != Some("https");
        let port = uri.port_u16().or(Some(if is_clear { 80 } else { 443 }));
        // Of a kind that is not tried again.
        let refused = |refused: Refused| HttpError::new(HttpErrorKind::Decode, refused);
        self.http.hosts.check(host, port).map_err(refused)?;
        if is_clear && !self.allows_http && !is_link_local(host) {
            return Err(refused(Refused(format!(
                "the host {host} would be asked without TLS; AWS_ALLOW_HTTP, GOOGLE_ALLOW_HTTP or AZURE_ALLOW_HTTP = true allows it"
            ))));
        }
        self.http.client.call(request).await
    }
}
