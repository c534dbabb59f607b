//! Random writes, loads, deletions, reads and scans against plain maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use ferrocast::{
    catalog::FeatureView,
    features::{
        EntityKey, ListValue, OnlineStore, RowTime, Scan, StoredRow, Value, WriteCounts, WriteRow,
    },
};

use crate::{fixtures::*, for_every_store};

for_every_store!(random_work_is_as_in_a_map);

const ROUNDS: u32 = 60;

const KEYS: &str = r#"{ name = "number", type = "int64" }, { name = "text", type = "string" }"#;

const FEATURES: &str = r#"
    { name = "x", type = "double" },
    { name = "count", type = "int64" },
    { name = "label", type = "string" },
    { name = "list", type = "list<int64>" },
    { name = "flag", type = "bool" }
"#;

const FEATURE_COUNT: usize = 5;

/// SplitMix64: small, and good enough to choose with.
pub struct Random(u64);

impl Random {
    pub fn seeded() -> Random {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = u64::try_from(since_epoch.as_nanos() % u128::from(u64::MAX)).unwrap();
        eprintln!("seed {seed}");
        Random(seed)
    }

    pub fn below(&mut self, bound: u64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        i64::try_from((mixed ^ (mixed >> 31)) % bound).unwrap()
    }

    pub fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(u64::try_from(bound).unwrap())).unwrap()
    }

    fn name(&mut self) -> Name {
        let texts = ["", "a", "A", "ä", "a b", "'"];
        let text = texts[self.index(texts.len())];
        (self.below(3), text.to_owned())
    }

    fn value(&mut self, feature: usize) -> Value {
        let number = self.below(1_000);
        if number < 200 {
            return Value::Null;
        }
        match feature {
            0 => Value::Double(number.to_string().parse().unwrap()),
            1 => Value::Int64(number),
            2 => Value::String(number.to_string().into()),
            3 => Value::List(ListValue::Int64((0..number % 4).collect())),
            _ => Value::Bool(number % 2 == 0),
        }
    }

    fn row(&mut self, is_whole: bool) -> Row {
        let kept = self.index(FEATURE_COUNT);
        let mut values = BTreeMap::new();
        for feature in 0..FEATURE_COUNT {
            if is_whole || feature == kept || self.below(3) == 0 {
                values.insert(feature, self.value(feature));
            }
        }
        Row {
            name: self.name(),
            time: time(self.below(6), self.below(3)),
            values,
        }
    }
}

/// What names an entity.
type Name = (i64, String);

/// A row as it is written: features to values, all of one time.
#[derive(Clone)]
struct Row {
    name: Name,
    time: RowTime,
    values: BTreeMap<usize, Value>,
}

impl Row {
    fn to_write(&self) -> WriteRow {
        let cells = (0..FEATURE_COUNT).map(|feature| self.values.get(&feature).cloned());
        WriteRow {
            key: entity_key(&self.name),
            row: StoredRow::partial(self.time, cells.collect()),
        }
    }
}

fn entity_key((number, text): &Name) -> EntityKey {
    key([Value::Int64(*number), Value::String(text.into())])
}

/// What an entity has of a feature, and the number of the row that brought it.
type Cells = BTreeMap<usize, (RowTime, Value, usize)>;

/// The newest of each feature; of equals the one that was there first.
fn overrule(cells: &mut Cells, newer: &Cells) -> bool {
    let mut is_changed = false;
    for (feature, cell) in newer {
        let is_newer = cells.get(feature).is_none_or(|known| cell.0 > known.0);
        if is_newer {
            cells.insert(*feature, cell.clone());
            is_changed = true;
        }
    }
    is_changed
}

#[derive(Default)]
struct Model {
    newest: BTreeMap<Name, Cells>,
    /// By entity, time and the features that the row says something about.
    history: BTreeMap<(Name, RowTime, BTreeSet<usize>), BTreeMap<usize, Value>>,
}

impl Model {
    fn write(&mut self, rows: &[Row]) -> WriteCounts {
        let mut batch: BTreeMap<&Name, Cells> = BTreeMap::new();
        for (number, row) in rows.iter().enumerate() {
            let cells = row.values.iter();
            let cells = cells.map(|(feature, value)| (*feature, (row.time, value.clone(), number)));
            overrule(batch.entry(&row.name).or_default(), &cells.collect());
            let features = row.values.keys().copied().collect();
            let same = (row.name.clone(), row.time, features);
            self.history
                .entry(same)
                .or_insert_with(|| row.values.clone());
        }
        let mut written = 0;
        for (name, cells) in batch {
            let stored = self.newest.entry(name.clone()).or_default();
            if overrule(stored, &cells) {
                let numbers: BTreeSet<usize> = cells.values().map(|cell| cell.2).collect();
                written += numbers.len();
            }
        }
        counts(
            u64::try_from(written).unwrap(),
            u64::try_from(rows.len() - written).unwrap(),
        )
    }

    fn delete(&mut self, name: &Name) -> u64 {
        let known = self.newest.remove(name).is_some();
        self.history.retain(|(kept, _, _), _| kept != name);
        u64::from(known)
    }

    fn rows(&self, scan: Scan) -> Vec<String> {
        let mut shown: Vec<(RowTime, String)> = if scan.history {
            let rows = self.history.iter().map(|((name, time, _), values)| {
                let cells = values.iter().map(|(f, v)| (*f, (*time, v.clone(), 0)));
                (*time, show(&entity_key(name), &expected(&cells.collect())))
            });
            rows.collect()
        } else {
            let rows = self.newest.iter().map(|(name, cells)| {
                let newest = cells.values().map(|cell| cell.0).max().unwrap();
                (newest, show(&entity_key(name), &expected(cells)))
            });
            rows.collect()
        };
        shown.retain(|(time, _)| scan.since.is_none_or(|since| time.event_timestamp >= since));
        let mut shown: Vec<String> = shown.into_iter().map(|(_, text)| text).collect();
        shown.sort();
        shown
    }
}

type Expected = Vec<Option<(Value, RowTime)>>;

fn expected(known: &Cells) -> Expected {
    let cells = (0..FEATURE_COUNT).map(|feature| known.get(&feature));
    cells
        .map(|cell| cell.map(|(time, value, _)| (value.clone(), *time)))
        .collect()
}

fn show(key: &EntityKey, cells: &Expected) -> String {
    format!("{key} {cells:?}")
}

async fn bring(fixture: &Fixture, view: &FeatureView, rows: &[Row], is_load: bool) -> WriteCounts {
    let rows: Vec<WriteRow> = rows.iter().map(Row::to_write).collect();
    if !is_load {
        return fixture.write(view, rows).await;
    }
    let batches = rows.chunks(4).map(|batch| Some(Ok(batch.to_vec())));
    let messages = batches.chain([None]).collect();
    let note = note_of(view, "random");
    load(&fixture.store, view, messages, &note).await.unwrap()
}

async fn check_reads(fixture: &Fixture, view: &FeatureView, model: &Model, random: &mut Random) {
    let asked: Vec<Name> = (0..random.below(20)).map(|_| random.name()).collect();
    let keys: Vec<_> = asked.iter().map(entity_key).collect();
    let found = fixture.store.read(view, &keys).await.unwrap();
    assert_eq!(found.len(), asked.len());
    for (name, row) in asked.iter().zip(found) {
        let known = model.newest.get(name);
        assert_eq!(row.as_ref().map(cells), known.map(expected), "{name:?}");
        let newest = known.and_then(|cells| cells.values().map(|cell| cell.0).max());
        assert_eq!(row.map(|row| row.time()), newest, "{name:?}");
    }
}

async fn check_scans(fixture: &Fixture, view: &FeatureView, model: &Model, random: &mut Random) {
    let since = (random.below(2) == 0).then(|| at(random.below(6)));
    for history in [false, true] {
        let scan = Scan { history, since };
        let found = fixture.scan(view, scan).await.unwrap();
        let shown = found.iter().map(|row| show(&row.key, &cells(&row.row)));
        let mut shown: Vec<String> = shown.collect();
        shown.sort();
        assert_eq!(shown, model.rows(scan), "{scan:?}");
    }
}

async fn random_work_is_as_in_a_map(fixture: Fixture) {
    let mut random = Random::seeded();
    let text = one_view_with_history("numbers", KEYS, FEATURES);
    let view = fixture.apply(&text).await.remove(0);
    let mut model = Model::default();
    for round in 0..ROUNDS {
        let is_load = random.below(3) == 0;
        let rows: Vec<Row> = (0..random.below(12))
            .map(|_| {
                let is_whole = is_load || random.below(2) == 0;
                random.row(is_whole)
            })
            .collect();
        let brought = bring(&fixture, &view, &rows, is_load).await;
        assert_eq!(brought, model.write(&rows), "round {round}");
        if random.below(4) == 0 {
            let name = random.name();
            let views = [std::sync::Arc::clone(&view)];
            let deleted = fixture.store.delete(&views, &entity_key(&name)).await;
            assert_eq!(deleted.unwrap(), model.delete(&name), "round {round}");
        }
        check_reads(&fixture, &view, &model, &mut random).await;
        check_scans(&fixture, &view, &model, &mut random).await;
    }
}
