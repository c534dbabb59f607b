//! Streams of predictions: answered in order, some at once, held up by flow control.

use std::time::Duration;

use ferrocast::grpc::pb::{
    PredictByEntityRequest, PredictRequest, StreamPredictRequest, StreamPredictResponse,
    stream_predict_request::Request as Asked,
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Code, Streaming};

use crate::support::{Running, expected_scores, loan, object};

fn by_entity(id: u64, loans: &[&str]) -> StreamPredictRequest {
    StreamPredictRequest {
        id,
        request: Some(Asked::PredictByEntity(PredictByEntityRequest {
            model: "credit_risk".into(),
            entities: loans.iter().map(|id| loan(id)).collect(),
            ..Default::default()
        })),
    }
}

fn rows(id: u64, count: usize) -> StreamPredictRequest {
    StreamPredictRequest {
        id,
        request: Some(Asked::Predict(PredictRequest {
            model: "credit_risk".into(),
            rows: (0..count)
                .map(|_| object(&json!({"annual_inc": 1})))
                .collect(),
            ..Default::default()
        })),
    }
}

async fn open(
    running: &Running,
) -> (
    mpsc::Sender<StreamPredictRequest>,
    Streaming<StreamPredictResponse>,
) {
    let (requests, sent) = mpsc::channel(1);
    let mut client = running.predictions().await;
    let answers = client
        .stream_predict(ReceiverStream::new(sent))
        .await
        .unwrap();
    (requests, answers.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_order_whatever_each_takes() {
    let running = Running::start().await;
    let expected = expected_scores();
    let asked = expected.clone();
    // Every tenth takes some hundred times as long as the others.
    let requests = tokio_stream::iter(0..500_u64).map(move |id| match id % 10 {
        0 => rows(id, 2_000),
        _ => by_entity(id, &[&asked[usize::try_from(id).unwrap()].0]),
    });
    let mut client = running.predictions().await;
    let mut answers = client.stream_predict(requests).await.unwrap().into_inner();
    let mut next = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        assert_eq!(answer.id, next);
        let predictions = answer.response.unwrap().predictions;
        if next % 10 == 0 {
            assert_eq!(predictions.len(), 2_000);
        } else {
            let (id, score) = &expected[usize::try_from(next).unwrap()];
            assert!((predictions[0].score - score).abs() < 1e-5, "{id}");
        }
        next += 1;
    }
    assert_eq!(next, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_does_not_end_the_stream() {
    let running = Running::start().await;
    let (requests, mut answers) = open(&running).await;
    let empty = StreamPredictRequest {
        id: 2,
        request: None,
    };
    for request in [by_entity(1, &["nobody"]), empty, by_entity(3, &["LC00001"])] {
        requests.send(request).await.unwrap();
    }
    let mut next = async || answers.message().await.unwrap().unwrap();
    let refused = next().await;
    assert_eq!((refused.id, refused.response), (1, None));
    let error = refused.error.unwrap();
    assert_eq!(error.code, i32::from(Code::NotFound));
    assert!(error.message.contains("entities[0]"), "{error:?}");
    let refused = next().await.error.unwrap();
    assert_eq!(refused.field_violations[0].field, "request");
    let answer = next().await;
    assert_eq!(
        (answer.id, answer.response.unwrap().predictions.len()),
        (3, 1)
    );
    drop(requests);
    assert_eq!(answers.message().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_no_answers_is_held_up_and_given_up() {
    let running = Running::with(&[("server.stream_idle_ms_max", "2000")]).await;
    let (requests, mut answers) = open(&running).await;
    // Answers of some 200 kB each soon fill what the caller's side takes unread. Held up, nothing more can be sent, and after
    // two seconds the server has enough of it.
    let sent = std::cell::Cell::new(0);
    let sending = async {
        while sent.get() < 10_000 && requests.send(rows(sent.get(), 2_000)).await.is_ok() {
            sent.set(sent.get() + 1);
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(15), sending).await;
    let sent = sent.get();
    // Some twenty, by what the windows hold.
    assert!((1..100).contains(&sent), "{sent} requests");
    let end = loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ends as if all were well"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::DeadlineExceeded, "{end:?}");
    assert!(end.message().contains("no answer was taken"), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_was_read() {
    let running = Running::start().await;
    let (requests, mut answers) = open(&running).await;
    requests.send(by_entity(1, &["LC00001"])).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().id, 1);
    let stopped = tokio::spawn(running.server.stop());
    let end = answers.message().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "{end:?}");
    assert!(stopped.await.unwrap());
}
