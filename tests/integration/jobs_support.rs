//! What tests of prediction jobs share: all loans of the sample, submitting, waiting, paging.

use std::{collections::BTreeSet, time::Duration};

use ferrocast::grpc::pb::{
    self, prediction_job::State, prediction_service_client::PredictionServiceClient,
};
use tonic::{Code, transport::Channel};
use uuid::Uuid;

use crate::support::{loan, models};

pub type Client = PredictionServiceClient<Channel>;

/// A job has this long to get anywhere, on a machine that does much else.
const WAIT_MAX: Duration = Duration::from_secs(300);

pub async fn connect(address: &str) -> Client {
    let channel = Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    PredictionServiceClient::new(channel).max_decoding_message_size(64 << 20)
}

/// Every loan of the sample.
pub fn all_loans() -> Vec<String> {
    let path = models().join("credit_risk/data/loan_terms.csv");
    let mut reader = csv::Reader::from_path(path).unwrap();
    let rows = reader.records();
    let ids: Vec<String> = rows.map(|row| row.unwrap()[0].to_owned()).collect();
    assert_eq!(ids.len(), 9_857);
    ids
}

pub fn submission(loans: &[String]) -> pb::SubmitPredictionRequest {
    pb::SubmitPredictionRequest {
        model: "credit_risk".into(),
        entities: loans.iter().map(|id| loan(id)).collect(),
        ..Default::default()
    }
}

pub async fn submit(client: &mut Client, request: pb::SubmitPredictionRequest) -> String {
    let answer = client.submit_prediction(request).await;
    answer.unwrap().into_inner().job_id
}

/// The scores of an answer at once.
pub async fn at_once(client: &mut Client, loans: &[String]) -> Vec<pb::Prediction> {
    let request = pb::PredictByEntityRequest {
        model: "credit_risk".into(),
        entities: loans.iter().map(|id| loan(id)).collect(),
        ..Default::default()
    };
    let answer = client.predict_by_entity(request).await.unwrap();
    answer.into_inner().predictions
}

pub async fn job(client: &mut Client, job_id: &str) -> pb::PredictionJob {
    let request = pb::GetPredictionJobRequest {
        job_id: job_id.into(),
        page_size: 1,
        ..Default::default()
    };
    loop {
        match client.get_prediction_job(request.clone()).await {
            Ok(answer) => return answer.into_inner().job.unwrap(),
            // Its predictions have expired while they were read: to be asked again.
            Err(fault) if fault.code() == Code::Aborted => {}
            Err(fault) => panic!("{fault}"),
        }
    }
}

/// Looks at a job until it is as wanted; it never gets less done.
pub async fn until(
    client: &mut Client,
    job_id: &str,
    is_so: impl Fn(&pb::PredictionJob) -> bool,
) -> pb::PredictionJob {
    let polled = async {
        loop {
            let job = job(client, job_id).await;
            if is_so(&job) {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(WAIT_MAX, polled).await;
    match found {
        Ok(job) => job,
        Err(_) => panic!("never so: {:?}", job(client, job_id).await),
    }
}

pub fn has_ended(job: &pb::PredictionJob) -> bool {
    !matches!(job.state(), State::Queued | State::Running)
}

/// Scored a part of a job, and not all.
pub fn is_halfway(job: &pb::PredictionJob) -> bool {
    assert!(job.done < job.total, "too early to interrupt it: {job:?}");
    job.done > 0
}

/// Waits until a job has succeeded.
pub async fn succeeded(client: &mut Client, job_id: &str) -> pb::PredictionJob {
    let job = until(client, job_id, has_ended).await;
    assert_eq!(job.state(), State::Succeeded, "{job:?}");
    assert_eq!(job.done, job.total);
    job
}

/// All predictions of a job, page by page.
pub async fn predictions(client: &mut Client, job_id: &str, page_size: u32) -> Vec<pb::Prediction> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::GetPredictionJobRequest {
            job_id: job_id.into(),
            page_size,
            page_token,
        };
        let page = client.get_prediction_job(request).await.unwrap();
        let page = page.into_inner();
        assert!(page.predictions.len() <= usize::try_from(page_size).unwrap());
        all.extend(page.predictions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

/// Predictions are the same to the last bit; only their ids are their own, and each is there once.
pub fn assert_same(job: &[pb::Prediction], at_once: &[pb::Prediction]) {
    assert_eq!(job.len(), at_once.len());
    for (row, (one, other)) in job.iter().zip(at_once).enumerate() {
        assert_eq!(one.score.to_bits(), other.score.to_bits(), "row {row}");
        let mut one = one.clone();
        one.prediction_id.clone_from(&other.prediction_id);
        assert_eq!(&one, other, "row {row}");
        for (class, probability) in &one.probabilities {
            let other = other.probabilities[class];
            assert_eq!(probability.to_bits(), other.to_bits(), "row {row}");
        }
    }
    let ids: BTreeSet<&str> = job.iter().map(|one| one.prediction_id.as_str()).collect();
    assert_eq!(ids.len(), job.len());
}

/// When a prediction was made, in milliseconds since 1970, as its id tells.
pub fn made_at_ms(prediction: &pb::Prediction) -> u64 {
    let id = Uuid::parse_str(&prediction.prediction_id).unwrap();
    let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
    seconds * 1_000 + u64::from(nanos) / 1_000_000
}
