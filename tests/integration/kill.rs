//! What was acknowledged survives `kill -9`, of the server and of PostgreSQL, while writers are at full speed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ferrocast::grpc::pb::{self, feature_service_client::FeatureServiceClient};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::{
    postgres::Postgres,
    serving::Serving,
    support::{fill, filled_sqlite},
};

const DEFINITIONS: &str = r#"
    project = "kill"
    [[entities]]
    name = "cell"
    join_keys = [{ name = "writer", type = "int64" }, { name = "number", type = "int64" }]
    [[feature_views]]
    name = "counts"
    entity = "cell"
    history = true
    features = [{ name = "round", type = "int64" }, { name = "again", type = "int64" }]
"#;

const WRITERS: i64 = 4;
const ROWS_A_BATCH: i64 = 25;
/// The kill comes after so many acknowledgements of all writers together.
const ACKNOWLEDGED_BEFORE_KILL: u64 = 60;
/// A writer gives up after so many rounds, should the kill never come.
const ROUNDS_MAX: i64 = 100_000;

async fn connect(address: &str) -> FeatureServiceClient<Channel> {
    let channel = Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    FeatureServiceClient::new(channel).max_decoding_message_size(64 << 20)
}

fn int64s(name: &str, values: impl IntoIterator<Item = i64>) -> pb::TypedColumn {
    pb::TypedColumn {
        name: name.into(),
        int64s: values.into_iter().collect(),
        ..Default::default()
    }
}

/// Every row of a writer says the number of the round, twice.
fn batch(writer: i64, round: i64) -> pb::WriteFeaturesRequest {
    let count = usize::try_from(ROWS_A_BATCH).unwrap();
    pb::WriteFeaturesRequest {
        view: "counts".into(),
        rows: Vec::new(),
        columns: vec![
            int64s("writer", std::iter::repeat_n(writer, count)),
            int64s("number", 0..ROWS_A_BATCH),
            int64s("round", std::iter::repeat_n(round, count)),
            int64s("again", std::iter::repeat_n(round, count)),
        ],
    }
}

/// What one writer knows: the last round that was acknowledged.
type Acknowledged = i64;

/// Writes round after round, half of the writers by a stream and half by single calls, until the server is gone.
fn spawn_writer(address: &str, writer: i64, total: Arc<AtomicU64>) -> JoinHandle<Acknowledged> {
    let address = address.to_owned();
    tokio::spawn(async move {
        let mut client = connect(&address).await;
        if writer % 2 == 0 {
            by_calls(&mut client, writer, &total).await
        } else {
            by_stream(&mut client, writer, &total).await
        }
    })
}

async fn by_calls(
    client: &mut FeatureServiceClient<Channel>,
    writer: i64,
    total: &AtomicU64,
) -> Acknowledged {
    for round in 1..ROUNDS_MAX {
        if client.write_features(batch(writer, round)).await.is_err() {
            return round - 1;
        }
        total.fetch_add(1, Ordering::Relaxed);
    }
    panic!("the kill never came");
}

async fn by_stream(
    client: &mut FeatureServiceClient<Channel>,
    writer: i64,
    total: &AtomicU64,
) -> Acknowledged {
    let (sender, batches) = mpsc::channel(1);
    tokio::spawn(async move {
        for round in 1..ROUNDS_MAX {
            let request = pb::StreamWriteFeaturesRequest {
                id: u64::try_from(round).unwrap(),
                batch: Some(batch(writer, round)),
            };
            if sender.send(request).await.is_err() {
                return;
            }
        }
    });
    let answers = client.stream_write_features(ReceiverStream::new(batches));
    let mut answers = answers.await.unwrap().into_inner();
    let mut last = 0;
    while let Ok(Some(answer)) = answers.message().await {
        if answer.error.is_some() {
            return last;
        }
        assert_eq!(answer.id, u64::try_from(last + 1).unwrap(), "in order");
        last += 1;
        total.fetch_add(1, Ordering::Relaxed);
    }
    last
}

/// The rounds that a writer's rows say now.
async fn stored(client: &mut FeatureServiceClient<Channel>, writer: i64) -> Vec<i64> {
    let count = usize::try_from(ROWS_A_BATCH).unwrap();
    let request = pb::GetOnlineFeaturesRequest {
        features: vec!["counts:round".into(), "counts:again".into()],
        entity_columns: vec![
            int64s("writer", std::iter::repeat_n(writer, count)),
            int64s("number", 0..ROWS_A_BATCH),
        ],
        format: pb::AnswerFormat::Packed.into(),
        ..Default::default()
    };
    let answer = client.get_online_features(request).await.unwrap();
    let mut columns = answer.into_inner().packed_columns.into_iter();
    let rounds = columns.next().unwrap().values.unwrap().int64s;
    let again = columns.next().unwrap().values.unwrap().int64s;
    assert_eq!(rounds, again, "no row is half written");
    rounds
}

/// Lets the writers run on a serving binary and kills something under them.
async fn acknowledged_until(
    serving: &mut Serving,
    kill: impl FnOnce(&Serving),
) -> Vec<Acknowledged> {
    let (address, _) = tokio::task::block_in_place(|| serving.banner());
    let definitions = pb::ApplyDefinitionsRequest {
        definitions: DEFINITIONS.into(),
        ..Default::default()
    };
    let mut client = connect(&address).await;
    client.apply_definitions(definitions).await.unwrap();
    let total = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| spawn_writer(&address, writer, Arc::clone(&total)))
        .collect();
    while total.load(Ordering::Relaxed) < ACKNOWLEDGED_BEFORE_KILL {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::task::block_in_place(|| kill(serving));
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.push(writer.await.unwrap());
    }
    acknowledged
}

/// Starts the binary on the same store, and compares.
async fn nothing_is_lost(url: &str, acknowledged: &[Acknowledged]) {
    let mut serving = Serving::start(url);
    let (address, _) = tokio::task::block_in_place(|| serving.banner());
    let mut client = connect(&address).await;
    for (writer, last) in (0..).zip(acknowledged) {
        let rounds = stored(&mut client, writer).await;
        let first = *rounds.first().unwrap();
        assert!(
            first >= *last,
            "writer {writer}: {last} was acknowledged, {first} is there"
        );
        // A batch whose acknowledgement did not arrive is there as a whole or not at all.
        assert!(rounds.iter().all(|round| *round == first), "{rounds:?}");
    }
    assert!(acknowledged.iter().sum::<i64>() >= i64::try_from(ACKNOWLEDGED_BEFORE_KILL).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_has_lost_nothing_that_it_acknowledged_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let url = tokio::task::block_in_place(|| filled_sqlite(dir.path()));
    let mut serving = Serving::start(&url);
    let acknowledged = acknowledged_until(&mut serving, |serving| serving.signal("KILL")).await;
    drop(serving);
    nothing_is_lost(&url, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_has_lost_nothing_that_it_acknowledged_on_postgres() {
    let url = Postgres::shared().fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    let mut serving = Serving::start(&url);
    let acknowledged = acknowledged_until(&mut serving, |serving| serving.signal("KILL")).await;
    drop(serving);
    nothing_is_lost(&url, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_postgres_has_lost_nothing_that_was_acknowledged() {
    let postgres = tokio::task::block_in_place(|| Postgres::start(None));
    let url = postgres.fresh_database().await;
    tokio::task::block_in_place(|| fill(&url));
    let mut serving = Serving::start(&url);
    let acknowledged = acknowledged_until(&mut serving, |_| postgres.kill()).await;
    tokio::task::block_in_place(|| postgres.start_again());
    drop(serving);
    nothing_is_lost(&url, &acknowledged).await;
}
