//! Random writes, loads and reads against a plain map.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use ferrocast::features::{EntityKey, OnlineStore, StoredRow, Value, WriteRow};
use tokio::sync::mpsc;

use crate::{fixtures::*, for_every_store};

for_every_store!(random_work_is_as_in_a_map);

/// SplitMix64: small, and good enough to choose with.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        i64::try_from((mixed ^ (mixed >> 31)) % bound).unwrap()
    }

    fn key(&mut self) -> (i64, String) {
        let texts = ["", "a", "A", "ä", "a b", "'"];
        let text = texts[usize::try_from(self.below(6)).unwrap()];
        (self.below(5), text.to_owned())
    }
}

fn entity_key((number, text): &(i64, String)) -> EntityKey {
    key([Value::Int64(*number), Value::String(text.clone())])
}

async fn random_work_is_as_in_a_map(fixture: Fixture) {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = u64::try_from(since_epoch.as_nanos() % u128::from(u64::MAX)).unwrap();
    eprintln!("seed {seed}");
    let mut random = Random(seed);
    let keys = r#"{ name = "number", type = "int64" }, { name = "text", type = "string" }"#;
    let view = fixture.apply(&one_view("numbers", keys, X)).await.remove(0);
    let mut model: BTreeMap<(i64, String), StoredRow> = BTreeMap::new();
    for _ in 0..40 {
        let mut rows: Vec<WriteRow> = Vec::new();
        // The newest of the call by key; then, against the map, what takes effect.
        let mut newest: BTreeMap<(i64, String), StoredRow> = BTreeMap::new();
        for _ in 0..random.below(12) {
            let name = random.key();
            let x = Value::Int64(random.below(1_000));
            let x = if random.below(5) == 0 {
                Value::Null
            } else {
                Value::Double(x.to_string().parse().unwrap())
            };
            let row = write_row(entity_key(&name), random.below(6), random.below(3), vec![x]);
            let time = |row: &StoredRow| (row.event_timestamp, row.created_at);
            if newest
                .get(&name)
                .is_none_or(|kept| time(&row.row) > time(kept))
            {
                newest.insert(name, row.row.clone());
            }
            rows.push(row);
        }
        let total = u64::try_from(rows.len()).unwrap();
        let counts = if random.below(2) == 0 {
            fixture.store.write(&view, rows).await.unwrap()
        } else {
            let (sender, batches) = mpsc::channel(16);
            for batch in rows.chunks(4) {
                sender.try_send(Some(Ok(batch.to_vec()))).unwrap();
            }
            sender.try_send(None).unwrap();
            fixture
                .store
                .load(&view, batches, &note("x"))
                .await
                .unwrap()
        };
        let mut written = 0;
        for (name, row) in newest {
            let is_newer = model.get(&name).is_none_or(|stored| {
                (row.event_timestamp, row.created_at) > (stored.event_timestamp, stored.created_at)
            });
            if is_newer {
                model.insert(name, row);
                written += 1;
            }
        }
        assert_eq!(
            (counts.written, counts.late),
            (written, total - written),
            "seed {seed}"
        );
        let asked: Vec<_> = (0..random.below(20)).map(|_| random.key()).collect();
        let keys: Vec<_> = asked.iter().map(entity_key).collect();
        let found = fixture.store.read(&view, &keys).await.unwrap();
        let expected: Vec<_> = asked.iter().map(|name| model.get(name).cloned()).collect();
        assert_eq!(found, expected, "seed {seed}");
    }
}
