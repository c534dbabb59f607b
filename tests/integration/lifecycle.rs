//! Start and stop: what cannot start says why; what stops answers what it has begun.

use std::time::Duration;

use ferrocast::{
    app::Server,
    error::ErrorKind,
    grpc::pb::{self, prediction_service_client::PredictionServiceClient},
};
use serde_json::{Value as Json, json};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use crate::{
    postgres::Postgres,
    redis_server::Redis,
    serving::Serving,
    support::{Running, config, ferrocast, fill, filled_sqlite, loan, sqlite_url, text},
};

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_overall_and_by_service() {
    let running = Running::start().await;
    let mut client = HealthClient::new(running.channel().await);
    for service in [
        "",
        "ferrocast.v1.FeatureService",
        "ferrocast.v1.PredictionService",
        "ferrocast.v1.ModelService",
    ] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let answer = client.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status, 1, "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_speaks_both_versions() {
    let running = Running::start().await;
    let channel = running.channel().await;

    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let listed = format!("{:?}", answers.message().await.unwrap().unwrap());
    for service in [
        "FeatureService",
        "PredictionService",
        "ModelService",
        "Health",
    ] {
        assert!(listed.contains(service), "{listed}");
    }

    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
                "ferrocast.v1.PredictionService".into(),
            ),
        ),
    };
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let described = format!("{:?}", answers.message().await.unwrap().unwrap());
    assert!(described.contains("FileDescriptorResponse"), "{described}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let url = sqlite_url(dir.path());
    for setting in ["server.grpc_addr", "server.http_addr"] {
        let fault = Server::start(&config(&url, &[(setting, &address)]))
            .await
            .err()
            .unwrap();
        assert_eq!(fault.kind(), ErrorKind::FailedPrecondition);
        assert!(
            fault.message().contains(setting) && fault.message().contains(&address),
            "{fault}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_at_the_start_is_named_without_its_password() {
    // A port that was free a moment ago.
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let url = format!("postgres://user:hunter2@127.0.0.1:{port}/db");
    let done = ferrocast(&[
        "serve",
        "--database-url",
        &url,
        "--grpc-addr",
        "127.0.0.1:0",
        "--http-addr",
        "off",
    ]);
    assert_eq!(done.status.code(), Some(1));
    let stderr = text(&done.stderr);
    assert!(stderr.contains(&port.to_string()), "{stderr}");
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_schema_is_refused_where_it_may_not_be_changed() {
    let url = Postgres::shared().fresh_database().await;
    let settings = [("database.migrate_at_start", "false")];
    let fault = Server::start(&config(&url, &settings)).await.err().unwrap();
    assert_eq!(fault.kind(), ErrorKind::FailedPrecondition);
    assert!(fault.message().contains("ferrocast migrate"), "{fault}");

    let migrated = ferrocast(&["migrate", "--database-url", &url]);
    assert!(migrated.status.success(), "{}", text(&migrated.stderr));
    let running = Running::on(&url, &settings, tempfile::tempdir().unwrap()).await;
    assert!(running.server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_serves_logs_and_stops_at_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let url = tokio::task::block_in_place(|| filled_sqlite(dir.path()));
    let mut serving = Serving::start(&url);
    let (address, banner) = tokio::task::block_in_place(|| serving.banner());
    for part in ["credit_risk: version 1 ready", "grpcurl", "LC00001", "curl"] {
        assert!(banner.contains(part), "{part} in {banner}");
    }

    let channel = tonic::transport::Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = pb::prediction_service_client::PredictionServiceClient::new(channel.clone());
    let mut request = tonic::Request::new(pb::PredictByEntityRequest {
        model: "credit_risk".into(),
        entities: vec![loan("LC00001")],
        ..Default::default()
    });
    request
        .metadata_mut()
        .insert("x-request-id", "find-me-in-the-log".parse().unwrap());
    let answer = client.predict_by_entity(request).await.unwrap();
    assert_eq!(
        answer.metadata().get("x-request-id").unwrap(),
        "find-me-in-the-log"
    );
    let mut client = pb::feature_service_client::FeatureServiceClient::new(channel);
    let mut stream = tonic::Request::new(tokio_stream::pending());
    stream
        .metadata_mut()
        .insert("x-request-id", "a-stream".parse().unwrap());
    let mut acks = client.stream_write_features(stream).await.unwrap();

    serving.signal("TERM");
    let end = acks.get_mut().message().await.unwrap_err();
    assert_eq!(end.code(), tonic::Code::Unavailable, "{end:?}");
    let (code, logs) = tokio::task::block_in_place(|| serving.end());
    assert_eq!(code, Some(0), "{logs}");
    let lines: Vec<serde_json::Value> = logs
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // A stream is told with what it ended with.
    for (id, code) in [("find-me-in-the-log", "Ok"), ("a-stream", "Unavailable")] {
        let is_answer =
            |line: &&Json| line["span"]["request_id"] == id && line["message"] == "answered";
        let answered: Vec<&Json> = lines.iter().filter(is_answer).collect();
        assert_eq!(answered.len(), 1, "{logs}");
        assert_eq!(answered[0]["code"], code);
    }
    assert!(
        lines.iter().any(|line| line["message"] == "stopped"),
        "{logs}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_running_requests_end() {
    let postgres = Postgres::shared();
    let url = postgres.fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    let running = Running::on(&url, &[], tempfile::tempdir().unwrap()).await;
    let address = running.server.grpc_addr();
    let mut client = running.predictions().await;
    // The request stands in the database when the stop begins.
    let database = url.rsplit('/').next().unwrap();
    let session = postgres.connect(database).await;
    session
        .batch_execute("BEGIN; LOCK TABLE fv_applicant IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let request = pb::PredictByEntityRequest {
        model: "credit_risk".into(),
        entities: vec![loan("LC00001")],
        ..Default::default()
    };
    let call = tokio::spawn(async move { client.predict_by_entity(request).await });
    let waiting =
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'fv_applicant'::regclass";
    while session
        .query_one(waiting, &[])
        .await
        .unwrap()
        .get::<_, i64>(0)
        == 0
    {
        assert!(!call.is_finished(), "{:?}", call.await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stopped = tokio::spawn(running.server.stop());
    // It listens no more, and waits.
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!call.is_finished() && !stopped.is_finished());
    session.batch_execute("ROLLBACK").await.unwrap();
    let answered = call.await.unwrap();
    assert!(answered.is_ok(), "{answered:?}");
    assert!(stopped.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_is_told_and_comes_back() {
    let postgres = tokio::task::block_in_place(|| Postgres::start(None));
    let url = postgres.fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    let settings = [("server.health_interval_ms", "100")];
    let running = Running::on(&url, &settings, tempfile::tempdir().unwrap()).await;
    let body = json!({"entities": [{"loan_id": "LC00001"}]});
    let path = "/v1/models/credit_risk:predictByEntity";
    assert_eq!(running.post(path, body.clone()).await.0, 200);

    tokio::task::block_in_place(|| postgres.stop());
    let (status, answer) = running.post(path, body.clone()).await;
    assert_eq!(
        (status, &answer["status"]),
        (503, &json!("UNAVAILABLE")),
        "{answer}"
    );
    ready_becomes(&running, 503).await;
    // What needs no store is answered meanwhile.
    let (status, _) = running
        .post("/v1/models/credit_risk:predict", json!({"rows": [{}]}))
        .await;
    assert_eq!(status, 200);

    tokio::task::block_in_place(|| postgres.start_again());
    ready_becomes(&running, 200).await;
    assert_eq!(running.post(path, body).await.0, 200);
    running.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_without_its_data_is_told_until_a_refill() {
    let redis = tokio::task::block_in_place(Redis::start);
    let folder = tempfile::tempdir().unwrap();
    let url = tokio::task::block_in_place(|| filled_sqlite(folder.path()));
    let redis_url = redis.url();
    let settings = [
        ("server.health_interval_ms", "100"),
        ("online.redis_urls", redis_url.as_str()),
    ];
    let running = Running::on(&url, &settings, folder).await;
    let body = json!({"features": ["applicant:annual_inc"], "entities": [{"loan_id": "LC00001"}]});
    let read = || running.post("/v1/features:get", body.clone());
    let lacks_data = async || {
        ready_becomes(&running, 503).await;
        assert_eq!(read().await.0, 503);
        let mut health = HealthClient::new(running.channel().await);
        for service in ["", "ferrocast.v1.FeatureService"] {
            let service = service.to_owned();
            let answer = health.check(HealthCheckRequest { service }).await.unwrap();
            assert_eq!(answer.into_inner().status, 2);
        }
    };
    let refill = async || {
        let online = format!("online.redis_urls={redis_url}");
        let arguments = ["refill", "--database-url", &url, "--set", &online];
        let done = tokio::task::block_in_place(|| ferrocast(&arguments));
        assert!(done.status.success(), "{}", text(&done.stderr));
        ready_becomes(&running, 200).await;
        assert_eq!(read().await.0, 200);
    };
    // Never filled, and so from the start.
    assert_eq!(running.get("/health/ready").await.0, 503);
    lacks_data().await;
    refill().await;
    redis.run(&redis::cmd("FLUSHALL"));
    lacks_data().await;
    refill().await;
}

async fn ready_becomes(running: &Running, wanted: u16) {
    let polled = async {
        while running.get("/health/ready").await.0 != wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), polled)
        .await
        .expect("readiness follows the store");
}

/// As where a collector of logs hangs: a pipe takes some hundred lines, and whoever writes into a full one waits.
#[tokio::test(flavor = "multi_thread")]
async fn logs_that_nobody_reads_hold_up_no_request() {
    const CALLS: usize = 1_000;
    let dir = tempfile::tempdir().unwrap();
    let url = tokio::task::block_in_place(|| filled_sqlite(dir.path()));
    let mut serving = Serving::unread(&url, &["--set", "telemetry.log_lines_max=100"]);
    let (address, _) = tokio::task::block_in_place(|| serving.banner());
    let mut client = PredictionServiceClient::connect(format!("http://{address}"))
        .await
        .unwrap();
    let calling = async {
        for _ in 0..CALLS {
            let status = client.get_ledger_status(pb::GetLedgerStatusRequest {});
            status.await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), calling)
        .await
        .unwrap();
    serving.read_logs();
    serving.signal("TERM");
    let (code, logs) = tokio::task::block_in_place(|| serving.end());
    assert_eq!(code, Some(0));
    let written = logs.lines().filter(|line| line.contains("answered"));
    assert!((1..CALLS).contains(&written.count()));
    assert!(
        logs.contains("lines of the log were lost") && logs.contains("telemetry.log_lines_max"),
        "{logs}"
    );
}
