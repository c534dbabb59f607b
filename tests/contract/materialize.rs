//! Materialization, from a file to stored rows.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use ferrocast::{
    catalog::FeatureView,
    error::Error,
    features::{
        MaterializeOptions, MaterializeOutcome, Materializer, OnlineStore, ProgressSink, RowSource,
        SourceFile, Sources, Timestamp, Value, ViewSource, WriteCounts, WriteRow, view_statistics,
    },
    sources::FileSources,
};

use crate::{fixtures::*, for_every_store, sources::*};

for_every_store!(
    a_file_is_loaded_once,
    newer_rows_are_loaded_by_themselves,
    two_at_once_do_no_harm,
    a_load_that_nobody_waits_for_ends_and_leaves_nothing,
);

/// What the last message of each source says.
type Done = Vec<(String, MaterializeOutcome)>;

async fn loaded(
    fixture: &Fixture,
    view: &Arc<FeatureView>,
    path: &Path,
    options: MaterializeOptions,
) -> Result<Done, Error> {
    let sources = Arc::new(FileSources::given(path.to_owned()));
    let materializer = Materializer::new(fixture.store.clone(), sources);
    let done = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&done);
    let sink: ProgressSink = Arc::new(move |progress| {
        if let Some(end) = progress.done {
            told.lock().unwrap().push((progress.source, end.outcome));
        }
    });
    let plans = materializer.plan(vec![Arc::clone(view)]).await?;
    let ended = materializer.run(&plans, options, &sink).await;
    let done = done.lock().unwrap().clone();
    ended.map(|()| done)
}

const PLAIN: MaterializeOptions = MaterializeOptions {
    incremental: false,
    force: false,
};

async fn a_file_is_loaded_once(fixture: Fixture) {
    let folder = Folder::new();
    let view = numbers(&fixture).await;
    let lines: Vec<String> = (0..9_000)
        .map(|line| {
            format!(
                "{},1970-01-01T00:00:0{}Z,{line}.5",
                line % 3_000,
                line / 3_000
            )
        })
        .collect();
    let path = folder.csv(format!("id,event_timestamp,x\n{}\n", lines.join("\n")));
    let load = |options| loaded(&fixture, &view, &path, options);
    let counts = WriteCounts {
        written: 3_000,
        late: 6_000,
    };
    let name = path.display().to_string();
    let outcome = |outcome| vec![(name.clone(), outcome)];
    let first = load(PLAIN).await.unwrap();
    assert_eq!(first, outcome(MaterializeOutcome::Loaded(counts)));
    let second = load(PLAIN).await.unwrap();
    assert_eq!(second, outcome(MaterializeOutcome::Unchanged));
    let forced = MaterializeOptions {
        force: true,
        ..PLAIN
    };
    let third = load(forced).await.unwrap();
    assert!(matches!(third[0].1, MaterializeOutcome::Loaded(_)));
    let found = fixture
        .store
        .read(&view, &[id(0), id(2_999)])
        .await
        .unwrap();
    let values: Vec<Value> = found
        .into_iter()
        .map(|row| row.unwrap().values.remove(0))
        .collect();
    assert_eq!(values, [Value::Double(6_000.5), Value::Double(8_999.5)]);
    let records = fixture.store.materializations("numbers").await.unwrap();
    assert_eq!(records[0].watermark, Some(at(2_000_000)));
}

async fn newer_rows_are_loaded_by_themselves(fixture: Fixture) {
    let folder = Folder::new();
    let view = numbers(&fixture).await;
    let line = |id: i64, second: i64| format!("{id},1970-01-01T00:00:0{second}Z,{id}\n");
    let file = |lines: &[(i64, i64)]| {
        let lines: String = lines
            .iter()
            .map(|(id, second)| line(*id, *second))
            .collect();
        folder.csv(format!("id,event_timestamp,x\n{lines}"))
    };
    let newer = MaterializeOptions {
        incremental: true,
        ..PLAIN
    };
    let path = file(&[(1, 5)]);
    loaded(&fixture, &view, &path, newer).await.unwrap();
    file(&[(1, 5), (2, 4), (3, 5), (4, 6)]);
    loaded(&fixture, &view, &path, newer).await.unwrap();
    let there = |wanted: i64| {
        let (store, view) = (fixture.store.clone(), Arc::clone(&view));
        async move { store.read(&view, &[id(wanted)]).await.unwrap()[0].is_some() }
    };
    assert!(!there(2).await && there(3).await && there(4).await);
    let again = loaded(&fixture, &view, &path, newer).await.unwrap();
    assert_eq!(again[0].1, MaterializeOutcome::Unchanged);
    // What was loaded in part is not taken for loaded whole.
    loaded(&fixture, &view, &path, PLAIN).await.unwrap();
    assert!(there(2).await);
}

async fn two_at_once_do_no_harm(fixture: Fixture) {
    let folder = Folder::new();
    let view = numbers(&fixture).await;
    let lines: Vec<String> = (0..2_000)
        .map(|line| format!("{line},1970-01-01T00:00:00Z,{line}.5"))
        .collect();
    let path = folder.csv(format!("id,event_timestamp,x\n{}\n", lines.join("\n")));
    let (first, second) = tokio::join!(
        loaded(&fixture, &view, &path, PLAIN),
        loaded(&fixture, &view, &path, PLAIN)
    );
    first.unwrap();
    second.unwrap();
    let statistics = view_statistics(fixture.store.as_ref(), &view, at(0))
        .await
        .unwrap();
    assert_eq!(statistics.rows, 2_000);
    let x = &statistics.features[0];
    let distribution = x.distribution.as_ref().unwrap();
    assert_eq!((distribution.min, distribution.max), (0.5, 1_999.5));
    assert_eq!((x.missing, statistics.newest), (0, Some(at(0))));
}

/// A source without an end.
struct Endless;

impl RowSource for Endless {
    fn row_count(&self) -> Option<u64> {
        None
    }

    fn next_batch(&mut self) -> Result<Option<Vec<WriteRow>>, Error> {
        Ok(Some(vec![number(1, 1, 1, 1.0); 10]))
    }
}

impl Sources for Endless {
    fn find(&self, _: &FeatureView) -> Result<ViewSource, Error> {
        Ok(ViewSource::Files(vec![SourceFile {
            name: "endless".to_owned(),
            path: PathBuf::new(),
            shown: "endless".to_owned(),
        }]))
    }

    fn digest(&self, _: &SourceFile, _: &FeatureView) -> Result<String, Error> {
        Ok("digest".to_owned())
    }

    fn open(
        &self,
        _: &SourceFile,
        _: &FeatureView,
        _: Timestamp,
    ) -> Result<Box<dyn RowSource>, Error> {
        Ok(Box::new(Endless))
    }
}

async fn a_load_that_nobody_waits_for_ends_and_leaves_nothing(fixture: Fixture) {
    let folder = Folder::new();
    let view = numbers(&fixture).await;
    let begun = Arc::new(tokio::sync::Notify::new());
    let begins = Arc::clone(&begun);
    let materializer = Materializer::new(fixture.store.clone(), Arc::new(Endless));
    let plans = materializer.plan(vec![Arc::clone(&view)]).await.unwrap();
    let endless = tokio::spawn(async move {
        // Told once at the beginning, and again while it is read.
        let sink: ProgressSink = Arc::new(move |told| {
            if told.rows_read > 0 {
                begins.notify_one();
            }
        });
        materializer.run(&plans, PLAIN, &sink).await
    });
    begun.notified().await;
    endless.abort();
    assert!(endless.await.unwrap_err().is_cancelled());
    // The embedded store loads one after the other: this one waits for the end of the first.
    let path = folder.csv("id,event_timestamp,x\n2,1970-01-01T00:00:00Z,2\n");
    let next = loaded(&fixture, &view, &path, PLAIN);
    tokio::time::timeout(crate::cancel::WAIT_MAX, next)
        .await
        .unwrap()
        .unwrap();
    let found = fixture.store.read(&view, &[id(1), id(2)]).await.unwrap();
    assert!(found[0].is_none() && found[1].is_some());
    let records = fixture.store.materializations("numbers").await.unwrap();
    assert_eq!(records.len(), 1);
}
