//! What is done in the database and then in Redis, and comes apart between the two.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ferrocast::{
    catalog::{CatalogStore, Definitions, FeatureView, apply_definitions},
    error::{Error, ErrorKind, Result},
    features::{
        LoadInput, MaterializeOptions, MaterializeOutcome, Materializer, OnlineStore, ProgressSink,
        RowSource, SourceFile, Sources, Timestamp, Value, ViewSource, WriteRow,
    },
    stores::{Refill, Store},
};

use crate::{
    cancel::{WAIT_MAX, await_lock_waits},
    fixtures::*,
    gate::{Gate, eventually},
    postgres::Postgres,
    redis_only::{keys_of, prefix, rows_of, sixty_numbers, x},
    redis_server::Redis,
};

/// A store that reaches a Redis through a gate, and one that reaches it at once.
async fn gated(server: &Redis) -> (Gate, Fixture, Arc<Store>) {
    let gate = Gate::before(server).await;
    let mut options = online([gate.url()]);
    options.connections_max = 1;
    let fixture = redis_with(options.clone()).await;
    options.urls = vec![server.url().into()];
    let direct = open_store(&fixture.url, Some(&options)).await;
    (gate, fixture, direct)
}

/// Drops a request whose first half is done and whose second waits at the gate, and lets that go on.
async fn abandon_between<T: Send + 'static>(
    gate: &Gate,
    word: &'static str,
    request: impl Future<Output = Result<T>> + Send + 'static,
) {
    gate.hold(word);
    let request = tokio::spawn(request);
    gate.is_reached().await;
    request.abort();
    assert!(request.await.err().unwrap().is_cancelled());
    gate.open();
}

async fn stored_x(store: &Store, view: &FeatureView, entity: i64) -> Option<Value> {
    x(store.read(view, &[id(entity)]).await.unwrap().remove(0))
}

#[tokio::test]
async fn what_nobody_waits_for_is_done_in_both() {
    let server = Redis::start();
    let (gate, fixture, direct) = gated(&server).await;
    let view = sixty_numbers(&fixture).await;
    let (store, of_view) = (fixture.store.clone(), view.clone());
    abandon_between(&gate, "EVALSHA", async move {
        store.write(&of_view, vec![number(1, 5, 5, 5.0)]).await
    })
    .await;
    eventually(async || stored_x(&direct, &view, 1).await == Some(Value::Double(5.0))).await;

    let (store, views) = (fixture.store.clone(), [view.clone()]);
    abandon_between(
        &gate,
        "PX",
        async move { store.delete(&views, &id(2)).await },
    )
    .await;
    eventually(async || stored_x(&direct, &view, 2).await.is_none()).await;

    let (store, of_view) = (fixture.store.clone(), view.clone());
    abandon_between(&gate, "EVALSHA", async move {
        let messages = vec![Some(Ok(vec![number(3, 6, 6, 6.0)])), None];
        load(&store, &of_view, messages, &note("left")).await
    })
    .await;
    eventually(async || stored_x(&direct, &view, 3).await == Some(Value::Double(6.0))).await;

    let (store, nothing) = (fixture.store.clone(), "project = \"demo\"");
    let nothing = Definitions::parse(nothing).unwrap();
    abandon_between(&gate, "SCAN", async move {
        apply_definitions(store.as_ref(), &nothing, LOSSY).await
    })
    .await;
    eventually(async || rows_of(&server, prefix(&fixture), "numbers").is_empty()).await;
}

/// The way to a Redis, which breaks once a load is noted there.
struct Break {
    server: Arc<Redis>,
    gate: Arc<Gate>,
    prefix: String,
}

impl Break {
    fn wait_and_break(&self) {
        let note = format!("{}:owing:numbers", self.prefix);
        let give_up_at = Instant::now() + WAIT_MAX;
        let is_noted = || keys_of(&self.server, &self.prefix).contains(&note);
        while Instant::now() < give_up_at && !is_noted() {
            std::thread::sleep(Duration::from_millis(10));
        }
        // The note is there before its answer is through the gate.
        std::thread::sleep(Duration::from_millis(300));
        self.gate.cut();
    }
}

/// A source that breaks it before its end is told, the first time.
struct Breaking {
    how: Arc<Break>,
    is_armed: AtomicBool,
}

struct BreakingRows {
    how: Option<Arc<Break>>,
    rows: Option<Vec<WriteRow>>,
}

impl RowSource for BreakingRows {
    fn row_count(&self) -> Option<u64> {
        None
    }

    fn next_batch(&mut self) -> Result<Option<Vec<WriteRow>>> {
        let rows = self.rows.take();
        if let (None, Some(how)) = (&rows, &self.how) {
            how.wait_and_break();
        }
        Ok(rows)
    }
}

impl Sources for Breaking {
    fn find(&self, _: &FeatureView) -> Result<ViewSource> {
        Ok(ViewSource::Files(vec![SourceFile {
            name: "rows".to_owned(),
            path: PathBuf::new(),
            shown: "rows".to_owned(),
        }]))
    }

    fn digest(&self, _: &SourceFile, _: &FeatureView) -> Result<String> {
        Ok("digest".to_owned())
    }

    fn open(&self, _: &SourceFile, _: &FeatureView, _: Timestamp) -> Result<Box<dyn RowSource>> {
        let is_armed = self.is_armed.swap(false, Ordering::SeqCst);
        Ok(Box::new(BreakingRows {
            how: is_armed.then(|| self.how.clone()),
            rows: Some(vec![number(1, 5, 5, 5.0), number(2, 4, 4, 4.0)]),
        }))
    }
}

#[tokio::test]
async fn a_load_that_did_not_reach_redis_is_done_again() {
    let server = Arc::new(Redis::start());
    for incremental in [false, true] {
        let (gate, fixture, direct) = gated(&server).await;
        let gate = Arc::new(gate);
        let view = numbers(&fixture).await;
        // So that Redis holds all rows, and is believed.
        fixture.write(&view, vec![number(9, 1, 1, 1.0)]).await;
        let sources = Breaking {
            how: Arc::new(Break {
                server: server.clone(),
                gate: gate.clone(),
                prefix: prefix(&fixture).to_owned(),
            }),
            is_armed: AtomicBool::new(true),
        };
        let materializer = Materializer::new(fixture.store.clone(), Arc::new(sources));
        let plans = materializer.plan(vec![view.clone()]).await.unwrap();
        let run = async || {
            let outcome = Arc::new(Mutex::new(None));
            let told = outcome.clone();
            let sink: ProgressSink = Arc::new(move |progress| {
                *told.lock().unwrap() = progress.done.map(|done| done.outcome);
            });
            let options = MaterializeOptions {
                incremental,
                force: false,
            };
            let ran = materializer.run(&plans, options, &sink).await;
            let outcome = *outcome.lock().unwrap();
            ran.map(|()| outcome)
        };
        let error = run().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        for words in [
            "in the database",
            "Load it again",
            "ferrocast refill numbers",
        ] {
            assert!(error.message().contains(words), "{error}");
        }
        gate.open();
        assert_eq!(stored_x(&direct, &view, 1).await, None);
        let known = direct.materializations("numbers").await.unwrap();
        assert_eq!(known[0].note.digest, "");
        assert_eq!(known[0].watermark, Some(at(5)));

        let outcome = run().await.unwrap();
        assert!(matches!(outcome, Some(MaterializeOutcome::Loaded(_))));
        // Also what is older than the watermark that the load had set.
        assert_eq!(stored_x(&direct, &view, 1).await, Some(Value::Double(5.0)));
        assert_eq!(stored_x(&direct, &view, 2).await, Some(Value::Double(4.0)));
        let outcome = run().await.unwrap();
        assert_eq!(outcome, Some(MaterializeOutcome::Unchanged));
    }
}

#[tokio::test]
async fn what_is_noted_of_loads_goes_with_what_makes_it_good() {
    let server = Redis::start();
    let (_, fixture, _) = gated(&server).await;
    let view = sixty_numbers(&fixture).await;
    let key = format!("{}:owing:numbers", prefix(&fixture));
    let is_noted = || keys_of(&server, prefix(&fixture)).contains(&key);
    let digest = async || {
        let mut known = fixture.store.materializations("numbers").await.unwrap();
        known.remove(0).note.digest
    };
    fixture.load(&view, vec![number(1, 5, 5, 5.0)]).await;
    assert!(!is_noted());
    let bad = || vec![Some(Err(Error::invalid("row 1", "a bad cell"))), None];
    let failed = load(&fixture.store, &view, bad(), &note("bad")).await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(!is_noted());
    assert_eq!(digest().await, "loaded");

    let leave = || server.run(redis::cmd("SADD").arg(&key).arg("of one that was killed"));
    leave();
    assert_eq!(digest().await, "");
    let failed = load(&fixture.store, &view, bad(), &note("bad")).await;
    failed.unwrap_err();
    assert_eq!(digest().await, "");
    let some = Refill {
        views: vec!["numbers".to_owned()],
        flush: false,
    };
    fixture.store.refill(&some, &|_, _| ()).await.unwrap();
    assert_eq!(digest().await, "loaded");
    leave();
    fixture.apply("project = \"demo\"").await;
    assert!(!is_noted());
}

#[tokio::test]
async fn a_query_that_nobody_waits_for_is_stopped() {
    let fixture = redis_before_postgres().await;
    let text = one_view("numbers", ID, X);
    let query = "SELECT 1::bigint AS id, now() AS t, 1::double precision AS x FROM raw";
    let text = format!("{text}source = {{ query = '{query}', timestamp_field = \"t\" }}\n");
    fixture.execute("CREATE TABLE raw ()").await;
    let view = fixture.apply(&text).await.remove(0);
    let name = fixture.url.rsplit('/').next().unwrap();
    let blocker = Postgres::shared().connect(name).await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE raw IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let store = fixture.store.clone();
    let request = tokio::spawn(async move {
        let input = LoadInput::Query { since: None };
        store.load(&view, input, &note("query")).await
    });
    crate::cancel::abandon(&blocker, request).await;
    await_lock_waits(&blocker, 0).await;
}

#[tokio::test]
async fn a_new_view_is_made_when_redis_is_rid_of_its_name() {
    let server = Redis::start();
    let (gate, fixture, direct) = gated(&server).await;
    // Of a view that had the name before.
    let left = format!("{}:numbers:{{i7}}", prefix(&fixture));
    server.run(redis::cmd("SET").arg(&left).arg("left behind"));
    let numbers = Definitions::parse(&one_view("numbers", ID, X)).unwrap();
    gate.hold("SCAN");
    let store = fixture.store.clone();
    let definitions = numbers.clone();
    let applying =
        tokio::spawn(async move { apply_definitions(store.as_ref(), &definitions, LOSSY).await });
    gate.is_reached().await;
    assert_eq!(direct.catalog_revision().await.unwrap(), 0);
    // Somebody else is faster, and the view is in use when the slow one sweeps.
    apply_definitions(direct.as_ref(), &numbers, LOSSY)
        .await
        .unwrap();
    let view = fixture.view("numbers").await;
    direct
        .write(&view, vec![number(1, 1, 1, 1.0)])
        .await
        .unwrap();
    gate.open();
    let (plan, catalog) = applying.await.unwrap().unwrap();
    assert!(plan.is_empty());
    assert_eq!(catalog.revision, 1);
    assert_eq!(stored_x(&direct, &view, 1).await, Some(Value::Double(1.0)));

    // A plan for an older catalog sweeps nothing at all.
    let again = fixture.plan("project = \"demo\"").await;
    direct.apply_plan(&again).await.unwrap();
    let create = fixture.plan(&one_view("numbers", ID, X)).await;
    direct.apply_plan(&create).await.unwrap();
    direct
        .write(&view, vec![number(1, 1, 1, 1.0)])
        .await
        .unwrap();
    gate.hold("SCAN");
    let late = fixture.store.apply_plan(&create);
    let late = tokio::time::timeout(Duration::from_secs(60), late).await;
    assert_eq!(late.unwrap().unwrap_err().kind(), ErrorKind::Conflict);
    gate.open();
}

#[tokio::test]
async fn what_redis_refuses_is_not_told_as_worth_another_try() {
    let server = Redis::start();
    let fixture = redis_at([server.url()]).await;
    let view = sixty_numbers(&fixture).await;
    let key = format!("{}:numbers:{{i70}}", prefix(&fixture));
    server.run(redis::cmd("RPUSH").arg(key).arg("theirs"));
    let row = number(70, 1, 1, 1.0);
    let error = fixture.store.write(&view, vec![row]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
    for words in ["in the database", "online.key_prefix"] {
        assert!(error.message().contains(words), "{error}");
    }
}
