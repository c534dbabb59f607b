//! `sslmode` against a PostgreSQL that speaks TLS.

use std::path::{Path, PathBuf};

use ferrocast::{
    catalog::CatalogStore,
    config::Secret,
    error::{ErrorKind, Result},
    features::OnlineStore,
    stores::{DatabaseOptions, open},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::{
    cancel::{abandon, await_lock_waits, lone_connection},
    postgres::{Postgres, ServerTls, USER},
};

/// The name that the server's certificate has, and an address that it has not.
const NAME: &str = "localhost";
const NUMBER: &str = "127.0.0.1";

/// Signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key, in PEM.
    pub fn sign(&self, names: &[&str], common_name: &str) -> (String, String) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

struct Setup {
    server: Postgres,
    folder: tempfile::TempDir,
    ours: Authority,
}

impl Setup {
    /// A server with a certificate for `localhost` alone.
    fn new() -> Setup {
        let ours = Authority::new("ours");
        let (certificate, key) = ours.sign(&["localhost"], "server");
        let server = Postgres::start(Some(&ServerTls {
            certificate,
            key,
            client_ca: Some(ours.0.pem()),
        }));
        Setup {
            server,
            folder: tempfile::tempdir().unwrap(),
            ours,
        }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Connects, and asks the server whether it is by TLS.
    async fn is_encrypted(&self, host: &str, parameters: &str) -> Result<bool> {
        let user = format!("{USER}:{}", self.server.password());
        self.is_encrypted_as(&user, host, parameters).await
    }

    async fn is_encrypted_as(&self, user: &str, host: &str, parameters: &str) -> Result<bool> {
        // The application's name tells our connection from the test's own.
        let name = uuid::Uuid::now_v7();
        let port = self.server.port();
        let url =
            format!("postgres://{user}@{host}:{port}/postgres?application_name={name}{parameters}");
        let store = open(&DatabaseOptions::new(Secret::from(url))).await?;
        store.ping().await?;
        let client = self.server.connect("postgres").await;
        let row = client
            .query_one(
                "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = $1 LIMIT 1",
                &[&name.to_string()],
            )
            .await
            .unwrap();
        Ok(row.get(0))
    }

    async fn assert_encrypted(&self, host: &str, parameters: &str, expected: bool) {
        let is_encrypted = self.is_encrypted(host, parameters).await;
        assert_eq!(is_encrypted.unwrap(), expected, "{host} {parameters}");
    }

    async fn assert_refused(&self, host: &str, parameters: &str, words: &str) {
        let outcome = self.is_encrypted(host, parameters).await;
        assert_refused(outcome, words, self.server.password());
    }
}

fn roots(path: &Path) -> String {
    format!("&sslrootcert={}", path.display())
}

fn assert_refused(outcome: Result<bool>, words: &str, password: &str) {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
    assert!(error.message().contains(words), "{error}");
    assert!(!format!("{error:?}").contains(password));
}

#[tokio::test]
async fn every_mode_without_roots_does_what_libpq_says() {
    let setup = Setup::new();
    setup
        .assert_encrypted(NAME, "&sslmode=disable", false)
        .await;
    setup.assert_encrypted(NAME, "&sslmode=allow", false).await;
    setup.assert_encrypted(NAME, "", true).await;
    setup.assert_encrypted(NAME, "&sslmode=prefer", true).await;
    setup
        .assert_encrypted(NUMBER, "&sslmode=require", true)
        .await;
    let bound = "&sslmode=require&channel_binding=require";
    setup.assert_encrypted(NAME, bound, true).await;
    // Nobody whom this machine trusts has signed a throw-away certificate.
    let system = setup.is_encrypted(NAME, "&sslrootcert=system").await;
    let error = system.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
}

#[tokio::test]
async fn authority_and_name_count_as_libpq_says() {
    let setup = Setup::new();
    let ours = roots(&setup.file("ours.pem", &setup.ours.0.pem()));
    let theirs = roots(&setup.file("theirs.pem", &Authority::new("theirs").0.pem()));
    let mode = |mode: &str, roots: &str| format!("&sslmode={mode}{roots}");
    // The name does not count, the authority does.
    for weak in ["verify-ca", "require"] {
        setup
            .assert_encrypted(NUMBER, &mode(weak, &ours), true)
            .await;
        setup
            .assert_refused(NAME, &mode(weak, &theirs), "no TLS")
            .await;
    }
    // Both count.
    let full = mode("verify-full", &ours);
    setup.assert_encrypted(NAME, &full, true).await;
    setup
        .assert_refused(NUMBER, &full, "not valid for name")
        .await;
    setup
        .assert_refused(NAME, &mode("verify-full", &theirs), "no TLS")
        .await;
}

/// The request to stop a statement is a connection of its own, with the same checks.
#[tokio::test]
async fn an_abandoned_request_is_cancelled_over_tls() {
    let setup = Setup::new();
    let ours = roots(&setup.file("ours.pem", &setup.ours.0.pem()));
    let url = format!(
        "postgres://{USER}:{}@{NAME}:{}/postgres?sslmode=verify-full{ours}",
        setup.server.password(),
        setup.server.port()
    );
    let store = lone_connection(&url).await;
    store.migrate().await.unwrap();
    let blocker = setup.server.connect("postgres").await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE ferrocast_catalog IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let waiting = std::sync::Arc::clone(&store);
    let request = tokio::spawn(async move { waiting.load_catalog().await });
    abandon(&blocker, request).await;
    store.ping().await.unwrap();
    await_lock_waits(&blocker, 0).await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let url = Postgres::shared().url("postgres");
    for mode in ["require", "verify-full"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, Authority::new("ours").0.pem()).unwrap();
        let url = format!("{url}?sslmode={mode}{}", roots(&path));
        let opened = open(&DatabaseOptions::new(Secret::from(url))).await;
        assert_refused(
            opened.map(|_| true),
            "does not support TLS",
            Postgres::shared().password(),
        );
    }
    for mode in ["disable", "allow", "prefer"] {
        let url = format!("{url}?sslmode={mode}");
        open(&DatabaseOptions::new(Secret::from(url)))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_client_certificate_logs_in() {
    let setup = Setup::new();
    let client = setup.server.connect("postgres").await;
    client
        .batch_execute("CREATE ROLE by_certificate LOGIN")
        .await
        .unwrap();
    let (certificate, key) = setup.ours.sign(&[], "by_certificate");
    let parameters = format!(
        "&sslmode=require&sslcert={}&sslkey={}",
        setup.file("client.pem", &certificate).display(),
        setup.file("client.key", &key).display()
    );
    let user = "by_certificate";
    assert!(
        setup
            .is_encrypted_as(user, "localhost", &parameters)
            .await
            .unwrap()
    );
    let without = setup
        .is_encrypted_as(user, "localhost", "&sslmode=require")
        .await;
    assert_refused(without, "refuses the login", setup.server.password());
    let missing = "&sslmode=require&sslcert=/nowhere/c.pem&sslkey=/nowhere/k.pem";
    let missing = setup.is_encrypted_as(user, "localhost", missing).await;
    assert_refused(missing, "/nowhere/k.pem", setup.server.password());
}
