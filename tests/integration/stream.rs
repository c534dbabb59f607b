//! Streams of writes: acknowledged in order, held up by flow control, ended by either side.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ferrocast::grpc::pb::{self, StreamWriteFeaturesRequest, StreamWriteFeaturesResponse};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Code, Request, Status, Streaming};

use crate::support::{Running, object};

const VIEW: &str = "applicant";

/// A batch of one row.
fn batch(id: u64, loan: &str, income: u64) -> StreamWriteFeaturesRequest {
    let row = json!({"loan_id": loan, "annual_inc": income});
    StreamWriteFeaturesRequest {
        id,
        batch: Some(pb::WriteFeaturesRequest {
            view: VIEW.into(),
            rows: vec![object(&row)],
            ..Default::default()
        }),
    }
}

/// An open stream: what is sent into it, and its acknowledgements.
struct Open {
    batches: mpsc::Sender<StreamWriteFeaturesRequest>,
    acks: Streaming<StreamWriteFeaturesResponse>,
}

impl Open {
    async fn on(running: &Running) -> Open {
        Open::with(running, None).await.unwrap()
    }

    async fn with(running: &Running, deadline: Option<Duration>) -> Result<Open, Status> {
        let (batches, sent) = mpsc::channel(1);
        let mut request = Request::new(ReceiverStream::new(sent));
        if let Some(deadline) = deadline {
            request.set_timeout(deadline);
        }
        let mut client = running.features().await;
        let acks = client.stream_write_features(request).await?.into_inner();
        Ok(Open { batches, acks })
    }

    async fn send(&mut self, batch: StreamWriteFeaturesRequest) {
        self.batches.send(batch).await.unwrap();
    }

    async fn ack(&mut self) -> StreamWriteFeaturesResponse {
        self.acks.message().await.unwrap().unwrap()
    }

    /// What the stream ends with.
    async fn end(&mut self) -> Status {
        match self.acks.message().await {
            Err(status) => status,
            Ok(Some(ack)) => panic!("{ack:?}"),
            Ok(None) => Status::ok(""),
        }
    }
}

async fn income(running: &Running, loan: &str) -> serde_json::Value {
    let get = json!({"features": ["applicant:annual_inc"], "entities": [{"loan_id": loan}]});
    let (_, answer) = running.post("/v1/features:get", get).await;
    answer["columns"][0]["values"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_batch_is_acknowledged_and_a_bad_one_does_not_end_the_stream() {
    let running = Running::start().await;
    let mut open = Open::on(&running).await;
    open.send(batch(7, "S1", 1)).await;
    let first = open.ack().await;
    assert_eq!((first.id, first.result.unwrap().written), (7, 1));
    assert_eq!(first.error, None);

    let mut bad = batch(8, "S1", 2);
    let rows = &mut bad.batch.as_mut().unwrap().rows;
    for _ in 0..30 {
        rows.push(object(&json!({"loan_id": "S1", "annual_inc": "much"})));
    }
    open.send(bad).await;
    let refused = open.ack().await;
    assert_eq!((refused.id, refused.result), (8, None));
    let error = refused.error.unwrap();
    assert_eq!(error.code, i32::from(Code::InvalidArgument));
    assert_eq!(error.field_violations.len(), 20);
    assert_eq!(error.field_violations[0].field, "rows[1].annual_inc");
    assert!(error.message.contains("rows[20].annual_inc"), "{error:?}");

    let mut unknown = batch(9, "S1", 3);
    unknown.batch.as_mut().unwrap().view = "nope".into();
    open.send(unknown).await;
    let error = open.ack().await.error.unwrap();
    assert_eq!(error.code, i32::from(Code::NotFound));
    open.send(StreamWriteFeaturesRequest {
        id: 10,
        batch: None,
    })
    .await;
    let error = open.ack().await.error.unwrap();
    assert_eq!(error.field_violations[0].field, "batch");

    open.send(batch(11, "S1", 4)).await;
    assert_eq!(open.ack().await.result.unwrap().written, 1);
    assert_eq!(income(&running, "S1").await, json!(4));
    drop(open.batches);
    assert_eq!(open.acks.message().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_batches_are_acknowledged_in_order() {
    let running = Running::start().await;
    let batches = tokio_stream::iter(0..1_000).map(|id| {
        let mut batch = batch(id, &format!("T{}", id % 10), id);
        // The columns' form, every other time.
        if id % 2 == 1 {
            let write = batch.batch.as_mut().unwrap();
            write.rows.clear();
            write.columns = vec![
                pb::TypedColumn {
                    name: "loan_id".into(),
                    strings: vec![format!("T{}", id % 10)],
                    ..Default::default()
                },
                pb::TypedColumn {
                    name: "annual_inc".into(),
                    doubles: vec![id as f64],
                    ..Default::default()
                },
            ];
        }
        batch
    });
    let mut client = running.features().await;
    let acks = client.stream_write_features(batches).await.unwrap();
    let acks: Vec<_> = acks.into_inner().collect().await;
    assert_eq!(acks.len(), 1_000);
    for (id, ack) in (0..).zip(acks) {
        let ack = ack.unwrap();
        assert_eq!((ack.id, ack.result.unwrap().written), (id, 1));
    }
    for last in 0..10_u64 {
        let loan = format!("T{last}");
        assert_eq!(income(&running, &loan).await, json!(990 + last));
    }
}

/// Keeps every writer of the store waiting until it is dropped.
fn block(running: &Running) -> rusqlite::Connection {
    let blocker = rusqlite::Connection::open(running.store_file()).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    blocker
}

/// Waits of the store that outlast a test.
const PATIENT: [(&str, &str); 3] = [
    ("database.connect_ms_max", "300000"),
    ("database.acquire_ms_max", "300000"),
    ("database.statement_ms_max", "300000"),
];

/// Batches of 100 kB each, and how many of them have been asked for.
fn large_batches(
    count: u64,
) -> (
    impl Stream<Item = StreamWriteFeaturesRequest>,
    Arc<AtomicUsize>,
) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let batches = tokio_stream::iter(0..count).map(move |id| {
        counted.fetch_add(1, Ordering::Relaxed);
        let mut large = batch(id, "L", id);
        let filler = object(&json!({"loan_id": "x".repeat(1_000), "annual_inc": 1}));
        large.batch.as_mut().unwrap().rows.extend(vec![filler; 95]);
        large
    });
    (batches, taken)
}

/// The count once it stands still.
async fn settled(count: &AtomicUsize) -> usize {
    let mut seen = count.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = count.load(Ordering::Relaxed);
        if now == seen && now > 0 {
            return now;
        }
        seen = now;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_faster_than_the_store_is_held_up_and_nothing_is_queued() {
    let running = Running::with(&PATIENT).await;
    let blocker = block(&running);
    let (batches, taken) = large_batches(400);
    let mut client = running.features().await;
    let acks = client.stream_write_features(batches).await.unwrap();
    // One batch is being written. What else left the sender fits into HTTP/2's windows and buffers: 2 MB of 40 at the most.
    let taken = settled(&taken).await;
    assert!(taken < 40, "{taken} batches left the sender");
    drop(blocker);
    let acks: Vec<_> = acks.into_inner().collect().await;
    let ids: Vec<u64> = acks.into_iter().map(|ack| ack.unwrap().id).collect();
    assert_eq!(ids, (0..400).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_sender_of_small_batches_is_held_up_and_not_cut_off() {
    const COUNT: u64 = 10_000;
    let running = Running::with(&PATIENT).await;
    let blocker = block(&running);
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    // Who waits between two messages sends each of them in a frame of its own.
    let batches = tokio_stream::iter(0..COUNT).then(move |id| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            tokio::task::yield_now().await;
            let mut batch = batch(id, "S", id);
            // Most are refused, which takes less time than ten thousand transactions.
            if id % 100 > 0 {
                batch.batch.as_mut().unwrap().view = "nope".into();
            }
            batch
        }
    });
    let mut client = running.features().await;
    let acks = client.stream_write_features(batches).await.unwrap();
    let taken = u64::try_from(settled(&taken).await).unwrap();
    assert!(taken < COUNT, "{taken} batches left the sender");
    drop(blocker);
    let acks: Vec<_> = acks.into_inner().collect().await;
    let ids: Vec<u64> = acks.into_iter().map(|ack| ack.unwrap().id).collect();
    assert_eq!(ids, (0..COUNT).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_takes_no_acknowledgements_is_held_up_too() {
    let running = Running::start().await;
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    // Each is refused with an acknowledgement of 4 kB, and so is not slowed down by the store.
    let batches = tokio_stream::iter(0..20_000).map(move |id| {
        counted.fetch_add(1, Ordering::Relaxed);
        let mut bad = batch(id, "L", 1);
        bad.batch.as_mut().unwrap().view = "n".repeat(4_000);
        bad
    });
    let mut client = running.features().await;
    let acks = client.stream_write_features(batches).await.unwrap();
    let taken = settled(&taken).await;
    assert!(taken < 2_000, "{taken} batches left the sender");
    drop(acks);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_batches_ends_and_what_it_wrote_stays() {
    let running = Running::with(&[("server.stream_idle_ms_max", "300")]).await;
    let mut open = Open::on(&running).await;
    open.send(batch(1, "S1", 5)).await;
    assert_eq!(open.ack().await.id, 1);
    let end = open.end().await;
    assert_eq!(end.code(), Code::DeadlineExceeded, "{end:?}");
    assert!(
        end.message().contains("server.stream_idle_ms_max"),
        "{end:?}"
    );
    assert_eq!(income(&running, "S1").await, json!(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_writes_what_was_read_and_sends_its_caller_on() {
    let running = Running::with(&PATIENT).await;
    let mut idle = Open::on(&running).await;
    let mut busy = Open::on(&running).await;
    busy.send(batch(1, "S1", 1)).await;
    assert_eq!(busy.ack().await.id, 1);
    let blocker = block(&running);
    let (batches, taken) = large_batches(1);
    let mut client = running.features().await;
    let mut writing = client
        .stream_write_features(batches)
        .await
        .unwrap()
        .into_inner();
    settled(&taken).await;

    let stopping = tokio::spawn(running.server.stop());
    for open in [&mut idle, &mut busy] {
        let end = open.end().await;
        assert_eq!(end.code(), Code::Unavailable, "{end:?}");
        assert!(end.message().contains("stops"), "{end:?}");
    }
    assert!(!stopping.is_finished());
    drop(blocker);
    let ack = writing.message().await.unwrap().unwrap();
    assert_eq!(ack.result.unwrap().written, 2);
    assert_eq!(
        writing.message().await.unwrap_err().code(),
        Code::Unavailable
    );
    assert!(stopping.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_counts_as_one_request_for_as_long_as_it_lasts() {
    let running = Running::with(&[("server.requests_in_flight_max", "1")]).await;
    let mut client = running.features().await;
    let list = || pb::ListFeatureViewsRequest {};
    let mut open = Open::on(&running).await;
    open.send(batch(1, "S1", 1)).await;
    open.ack().await;
    let shed = client.list_feature_views(list()).await.unwrap_err();
    assert_eq!(shed.code(), Code::ResourceExhausted);
    // However it ends: the caller ends it, or goes away.
    drop(open.batches);
    assert_eq!(open.acks.message().await.unwrap(), None);
    becomes_free(&running).await;
    drop(Open::on(&running).await);
    becomes_free(&running).await;
}

async fn becomes_free(running: &Running) {
    let mut client = running.features().await;
    let polled = async {
        while client
            .list_feature_views(pb::ListFeatureViewsRequest {})
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), polled)
        .await
        .expect("the place is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_deadline_ends_a_stream_and_the_servers_does_not() {
    let running = Running::with(&[("server.request_ms_max", "200")]).await;
    let mut open = Open::on(&running).await;
    for id in 0..4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        open.send(batch(id, "S1", id)).await;
        assert_eq!(open.ack().await.id, id);
    }
    let mut open = Open::with(&running, Some(Duration::from_millis(400)))
        .await
        .unwrap();
    open.send(batch(1, "S1", 1)).await;
    open.ack().await;
    let end = open.end().await;
    assert_eq!(end.code(), Code::DeadlineExceeded, "{end:?}");
    assert!(end.message().contains("deadline"), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_over_the_limit_ends_the_stream_with_its_reason() {
    let running = Running::with(&[("server.message_bytes_max", "50000")]).await;
    let (batches, _) = large_batches(1);
    let small = tokio_stream::iter([batch(77, "S1", 1)]);
    let mut client = running.features().await;
    let acks = client.stream_write_features(small.chain(batches)).await;
    let mut acks = acks.unwrap().into_inner();
    assert_eq!(acks.message().await.unwrap().unwrap().id, 77);
    let end = acks.message().await.unwrap_err();
    assert_eq!(end.code(), Code::InvalidArgument, "{end:?}");
    assert!(
        end.message().contains("server.message_bytes_max"),
        "{end:?}"
    );
}
