//! Servers of one database that have not the same versions, as while a new one is rolled out: each job is scored where its
//! version is.

use std::path::Path;

use ferrocast::grpc::pb::{self, prediction_job::State};

use crate::{
    jobs_support::{
        Client, all_loans, is_halfway, job, predictions, submission, submit, succeeded, until,
    },
    models_support::{add_opposite, copy_of_models, edit_text},
    postgres::Postgres,
    support::{Running, fill},
};

async fn serve(url: &str, models: &Path, settings: &[(&str, &str)]) -> Running {
    let models = models.display().to_string();
    let own = [
        ("models.path", models.as_str()),
        ("jobs.chunk_rows_max", "2"),
        ("jobs.poll_ms", "20"),
        ("jobs.retry_ms", "20"),
    ];
    Running::on(
        url,
        &[&own, settings].concat(),
        tempfile::tempdir().unwrap(),
    )
    .await
}

/// Waits until a server has left a job to others, so often.
async fn until_declined(client: &mut Client, id: &str, attempts: u32) -> pb::PredictionJob {
    until(client, id, |job| {
        assert!(
            matches!(job.state(), State::Queued | State::Running),
            "{job:?}"
        );
        job.state() == State::Queued && job.attempts >= attempts
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_one_server_has_is_waited_for_by_the_others() {
    let url = Postgres::shared().fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    let (with, without) = (copy_of_models(), copy_of_models());
    add_opposite(with.path(), "2");
    let idle = serve(&url, with.path(), &[("jobs.workers", "0")]).await;
    let mut client = idle.predictions().await;
    let request = pb::SubmitPredictionRequest {
        version: "2".into(),
        ..submission(&all_loans()[..20])
    };
    let id = submit(&mut client, request).await;
    let _lacking = serve(&url, without.path(), &[]).await;
    // More often than attempts may fail.
    let waiting = until_declined(&mut client, &id, 5).await;
    assert!(
        waiting.error.contains("no version or alias \"2\""),
        "{waiting:?}"
    );
    let _having = serve(&url, with.path(), &[]).await;
    assert_eq!(succeeded(&mut client, &id).await.version, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_scored_of_a_job_is_not_begun_anew_by_a_server_without_its_version() {
    let url = Postgres::shared().fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    let (with, without) = (copy_of_models(), copy_of_models());
    add_opposite(with.path(), "2");
    let toml = with.path().join("credit_risk/model.toml");
    edit_text(&toml, "champion = \"1\"", "champion = \"2\"");
    let idle = serve(&url, with.path(), &[("jobs.workers", "0")]).await;
    let mut client = idle.predictions().await;
    let having = serve(&url, with.path(), &[]).await;
    let id = submit(&mut client, submission(&all_loans()[..2_000])).await;
    until(&mut client, &id, is_halfway).await;
    assert!(having.server.stop().await);
    let half = job(&mut client, &id).await;
    assert!(is_halfway(&half) && half.version == "2");

    let patient = [("jobs.attempts_max", "20"), ("jobs.retry_ms", "300")];
    let _lacking = serve(&url, without.path(), &patient).await;
    let waiting = until_declined(&mut client, &id, half.attempts + 2).await;
    assert_eq!((waiting.done, &waiting.version), (half.done, &half.version));
    let _having = serve(&url, with.path(), &[]).await;
    assert_eq!(succeeded(&mut client, &id).await.version, "2");
    let found = predictions(&mut client, &id, 1_000).await;
    assert!(found.iter().all(|prediction| prediction.version == "2"));
}
