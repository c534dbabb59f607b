//! Runs of any chunks, merged, against brute force.
#![allow(clippy::unwrap_used)]
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use arrow_array::Int64Array;

use super::*;
use crate::{plan::ViewPlan, work::WorkDir};

fn groups() -> Groups {
    let feature = |name| serde_json::json!({"name": name, "type": "int64", "output": name});
    let view: ViewPlan = serde_json::from_value(serde_json::json!({
        "name": "loan",
        "join_keys": [],
        "ttl_micros": null,
        "features": [feature("whole"), feature("partial")],
        "history": [],
    }))
    .unwrap();
    Groups::new(&view, &BTreeSet::from([1]))
}

/// A match: row, time of `partial`, time of `whole`.
type Match = (u64, Option<i64>, Option<i64>);

/// A run, read in chunks of so many rows; the last size goes on. Each value is its time and the run's number.
fn run(work: &mut WorkDir, number: i64, rows: &[Match], chunks: &[usize]) -> Spooled {
    let groups = groups();
    let partial: Int64Array = rows.iter().map(|row| row.1).collect();
    let whole: Int64Array = rows.iter().map(|row| row.2).collect();
    let values = |times: &Int64Array| Arc::new(times.unary::<_, Int64Type>(|t| t * 10 + number));
    let created = Arc::new(Int64Array::from_value(0, rows.len()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(partial.clone()),
        created.clone(),
        Arc::new(whole.clone()),
        created,
        values(&whole),
        values(&partial),
    ];
    let batch = RecordBatch::try_new(Arc::clone(groups.match_schema()), columns).unwrap();
    let mut spool = Spool::new(groups.match_schema(), work.next_path(), 0, 0);
    let mut sizes = chunks
        .iter()
        .chain(std::iter::repeat(chunks.last().unwrap()));
    let mut done = 0;
    while done < batch.num_rows() {
        let size = (*sizes.next().unwrap()).min(batch.num_rows() - done);
        spool.push(batch.slice(done, size)).unwrap();
        done += size;
    }
    spool.finish().unwrap()
}

fn bounds(runs: usize, rows: u64) -> RunsMax {
    RunsMax { runs, rows }
}

fn push(runs: &mut Runs, work: &mut WorkDir, run: Spooled) {
    let schema = Arc::clone(runs.groups().match_schema());
    let path = work.next_path();
    runs.push(run, || Spool::new(&schema, path, 100, 0))
        .unwrap();
}

fn merged(runs: &Runs, row_count: u64) -> Vec<(Option<i64>, Option<i64>)> {
    let mut merger = runs.merger().unwrap();
    let mut rows = Vec::new();
    let mut first = 0;
    while first < row_count {
        let end = merger.reach(row_count).unwrap();
        let features = merger.take(first..end).unwrap().features().unwrap();
        let columns: Vec<&Int64Array> = features.iter().map(|f| f.as_primitive()).collect();
        let [whole, partial] = columns.as_slice() else {
            unreachable!()
        };
        rows.extend(whole.iter().zip(partial.iter()));
        first = end;
    }
    rows
}

#[test]
fn the_newest_match_of_each_group_wins_however_many_runs_are_kept() {
    let parent = tempfile::tempdir().unwrap();
    let mut work = WorkDir::new(parent.path()).unwrap();
    for runs_max in [2, 3, 9] {
        let mut runs = Runs::new(groups(), bounds(runs_max, 16_384));
        let all: [&[Match]; 4] = [
            &[
                (1, Some(5), Some(5)),
                (4, None, Some(7)),
                (60_000, None, Some(1)),
            ],
            &[(1, Some(4), Some(5)), (2, Some(1), None)],
            &[],
            &[(0, None, Some(2)), (4, Some(3), Some(6))],
        ];
        for (number, rows) in (1..).zip(all) {
            let run = run(&mut work, number, rows, &[1]);
            push(&mut runs, &mut work, run);
        }
        assert!(runs.runs.len() < runs_max);
        let rows = merged(&runs, 60_002);
        assert_eq!(rows.len(), 60_002);
        let first = [
            (Some(24), None),
            (Some(51), Some(51)),
            (None, Some(12)),
            (None, None),
            (Some(71), Some(34)),
        ];
        assert_eq!(rows.get(..5), Some(first.as_slice()));
        assert_eq!(rows.get(60_000), Some(&(Some(11), None)));
        let matched = rows.iter().filter(|row| **row != (None, None));
        assert_eq!(matched.count(), 5);
    }
}

#[test]
fn a_chunk_longer_than_the_one_before_is_read_from_its_beginning() {
    let parent = tempfile::tempdir().unwrap();
    let mut work = WorkDir::new(parent.path()).unwrap();
    let mut runs = Runs::new(groups(), bounds(2, 16_384));
    let growing: Vec<Match> = (0..6).map(|row| (row, None, Some(1))).collect();
    let growing = run(&mut work, 1, &growing, &[1, 2, 3]);
    push(&mut runs, &mut work, growing);
    let other = run(&mut work, 2, &[(7, None, Some(1))], &[1]);
    push(&mut runs, &mut work, other);
    let found: Vec<_> = merged(&runs, 8).iter().map(|row| row.0).collect();
    let ones = [Some(11); 6].into_iter();
    assert_eq!(found, ones.chain([None, Some(12)]).collect::<Vec<_>>());
}

/// SplitMix64.
fn below(seed: &mut u64, end: u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % end
}

fn matches(seed: &mut u64) -> Vec<Match> {
    let mut rows = Vec::new();
    let mut row = below(seed, 4);
    for _ in 0..below(seed, 40) {
        let mut time = || i64::try_from(below(seed, 5)).ok().filter(|time| *time > 0);
        rows.push((row, time(), time()));
        // Sometimes further than what is merged at once.
        let is_far = below(seed, 40) == 0;
        row += 1 + below(seed, if is_far { 20_000 } else { 3 });
    }
    rows
}

/// Time and run of the newest match: of equally new ones that of the first run.
type Newest = Option<(i64, Reverse<i64>)>;

#[test]
fn runs_of_any_chunks_merge_as_brute_force_does() {
    let parent = tempfile::tempdir().unwrap();
    for seed in 0..60 {
        let mut work = WorkDir::new(parent.path()).unwrap();
        let mut seed = seed;
        let runs_max = 2 + usize::try_from(below(&mut seed, 4)).unwrap();
        let rows_max = if below(&mut seed, 2) == 0 { 3 } else { 16_384 };
        let mut runs = Runs::new(groups(), bounds(runs_max, rows_max));
        let mut expected: BTreeMap<u64, [Newest; 2]> = BTreeMap::new();
        for number in 0..i64::try_from(1 + below(&mut seed, 9)).unwrap() {
            let rows = matches(&mut seed);
            for (row, partial, whole) in &rows {
                let best = expected.entry(*row).or_default();
                for (best, time) in best.iter_mut().zip([whole, partial]) {
                    *best = (*best).max(time.map(|time| (time, Reverse(number))));
                }
            }
            let chunks: Vec<usize> = (0..8)
                .map(|_| usize::try_from(1 + below(&mut seed, 6)).unwrap())
                .collect();
            let run = run(&mut work, number, &rows, &chunks);
            push(&mut runs, &mut work, run);
        }
        let last = expected.keys().last().copied().unwrap_or_default();
        for (row, found) in (0..).zip(merged(&runs, last + 1)) {
            let best = expected.get(&row).copied().unwrap_or_default();
            let [whole, partial] = best.map(|best| best.map(|(time, run)| time * 10 + run.0));
            assert_eq!(found, (whole, partial), "row {row}");
        }
    }
}

#[test]
fn no_more_rows_are_merged_at_once_than_there_is_room_for() {
    let parent = tempfile::tempdir().unwrap();
    let mut work = WorkDir::new(parent.path()).unwrap();
    let mut runs = Runs::new(groups(), bounds(2, 3));
    let rows: Vec<Match> = (0..50).map(|row| (row, None, Some(1))).collect();
    for number in 0..2 {
        let run = run(&mut work, number, &rows, &[20]);
        let (schema, path) = (Arc::clone(runs.groups().match_schema()), work.next_path());
        runs.push(run, || Spool::new(&schema, path, 0, 0)).unwrap();
    }
    let mut reader = runs.runs.first().unwrap().read().unwrap();
    while let Some(chunk) = reader.next_batch().unwrap() {
        assert!(chunk.num_rows() <= 3);
    }
}
