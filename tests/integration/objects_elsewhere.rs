//! Models of Google's storage and of a WebDAV server: fetched, followed, and asked only where that is allowed.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{
    front::{Front, Mood},
    mlflow::{MODEL, answers, becomes, models_from, problem},
    models_support::{add_opposite, copy, copy_of_models},
    services::{Gcs, WebDav},
    support::Running,
};

/// The versions 1 and 2 of a model, of which 2 scores the other class.
fn two_versions() -> TempDir {
    let versions = copy_of_models();
    add_opposite(versions.path(), "2");
    versions
}

fn folder(versions: &TempDir, version: &str) -> PathBuf {
    versions.path().join("credit_risk").join(version)
}

/// A server of a model that lies elsewhere, and its repository, which the server watches.
struct Served {
    running: Running,
    _models: TempDir,
}

/// A server that may ask the front.
async fn serve(front: &Front, source: &str, cache: &Path, environment: &[(&str, &str)]) -> Served {
    let host = format!("127.0.0.1:{}", front.port());
    serve_allowing(&host, source, cache, environment).await
}

async fn serve_allowing(
    hosts: &str,
    source: &str,
    cache: &Path,
    environment: &[(&str, &str)],
) -> Served {
    let models = models_from(source);
    let path = models.path().display().to_string();
    let cache = cache.display().to_string();
    let settings = [
        ("models.path", path.as_str()),
        ("artifacts.cache_dir", cache.as_str()),
        ("artifacts.poll_ms", "100"),
        ("artifacts.allowed_hosts", hosts),
        ("models.watch_interval_ms", "50"),
    ];
    Served {
        running: Running::within(environment, &settings).await,
        _models: models,
    }
}

async fn reason(served: &Served) -> String {
    let (_, model) = served.running.get(MODEL).await;
    model["reason"].as_str().unwrap().to_owned()
}

/// Version 2 is there now: it answers, goes on while nobody else does, and outlives the server.
async fn follows_and_outlives(served: Served, front: &Front, again: impl AsyncFnOnce() -> Served) {
    let running = &served.running;
    becomes(running, "version 2", |model| model["defaultVersion"] == "2").await;
    assert_eq!(answers(running).await, "2");
    front.behaves(Mood::Away);
    becomes(running, "away", |model| !problem(model).is_empty()).await;
    assert_eq!(answers(running).await, "2");
    drop(served);
    let later = again().await;
    assert_eq!(answers(&later.running).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_google_is_followed() {
    let gcs = tokio::task::block_in_place(Gcs::shared);
    let (versions, cache) = (two_versions(), tempfile::tempdir().unwrap());
    let bucket = gcs.new_bucket().await;
    let source = format!("gs://{bucket}/team/credit_risk");
    let upload = async |version: &str| {
        let prefix = format!("team/credit_risk/{version}");
        gcs.upload(&folder(&versions, version), &bucket, &prefix)
            .await;
    };
    upload("1").await;
    let front = Front::before(gcs.port()).await;
    let url = front.url();
    let environment = [
        ("GOOGLE_BASE_URL", url.as_str()),
        ("GOOGLE_BEARER_TOKEN", "t0ken"),
        ("GOOGLE_ALLOW_HTTP", "true"),
    ];
    let served = serve(&front, &source, cache.path(), &environment).await;
    assert_eq!(answers(&served.running).await, "1");
    let asked = front.requests();
    assert!(asked.contains("authorization: Bearer t0ken"), "{asked}");
    upload("2").await;
    let again = async || serve(&front, &source, cache.path(), &environment).await;
    follows_and_outlives(served, &front, again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_google_is_asked_only_with_tls_and_where_it_may_be() {
    let gcs = tokio::task::block_in_place(Gcs::shared);
    let bucket = gcs.new_bucket().await;
    let source = format!("gs://{bucket}/credit_risk");
    let front = Front::before(gcs.port()).await;
    let (url, host) = (front.url(), format!("127.0.0.1:{}", front.port()));
    let (token, place) = (("GOOGLE_BEARER_TOKEN", "t0ken"), "GOOGLE_BASE_URL");
    let clear = ("GOOGLE_ALLOW_HTTP", "true");
    for (hosts, environment, why) in [
        (
            host.as_str(),
            vec![(place, url.as_str()), token],
            "without TLS",
        ),
        (
            "storage.googleapis.com",
            vec![(place, url.as_str()), token, clear],
            "artifacts.allowed_hosts",
        ),
        (
            "",
            vec![token],
            "the host storage.googleapis.com:443 is not among",
        ),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let served = serve_allowing(hosts, &source, cache.path(), &environment).await;
        let told = reason(&served).await;
        assert!(told.contains(why), "{why} in {told}");
        assert!(!told.contains("t0ken"), "{told}");
    }
    assert_eq!(front.requests(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webdav_server_is_followed() {
    let dav = tokio::task::block_in_place(WebDav::shared);
    let (versions, cache) = (two_versions(), tempfile::tempdir().unwrap());
    let (name, place) = dav.new_folder();
    let add = |version: &str| copy(&folder(&versions, version), &place.join(version));
    add("1");
    let front = Front::before(dav.port()).await;
    let source = format!("{}/{name}", front.url());
    let strange = serve_allowing("", &source, cache.path(), &[]).await;
    let told = reason(&strange).await;
    assert!(told.contains("artifacts.allowed_hosts"), "{told}");
    assert_eq!(front.requests(), "");

    let served = serve(&front, &source, cache.path(), &[]).await;
    assert_eq!(answers(&served.running).await, "1");
    add("2");
    let again = async || serve(&front, &source, cache.path(), &[]).await;
    follows_and_outlives(served, &front, again).await;
}
