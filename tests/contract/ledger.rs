//! The ledger: what is recorded comes back to the bit, once, in order, and goes when it is too old.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ferrocast::{
    error::ErrorKind,
    features::{FeatureStatus, RawValue, Timestamp, Value},
    inference::{
        LedgerEntry, LedgerSpan, LedgerStore, Output, RecordedInput, RecordedValue,
        RecordedVersion, RecordedViolation, Role, TensorType, ViolationKind, day_at, first_id_at,
        first_id_of_day,
    },
    stores::Store,
};
use uuid::{NoContext, Uuid};

use crate::{fixtures::*, for_every_sql_store, for_every_store, properties::Random};

for_every_store!(what_is_recorded_comes_back_to_the_bit);

for_every_sql_store!(
    a_prediction_is_kept_once,
    pages_follow_each_other_to_the_end,
    a_model_has_its_own_predictions_and_versions,
    days_that_are_too_old_go_and_the_others_stay,
    what_a_newer_server_wrote_is_named,
    two_servers_record_at_once,
);

const DAY_MICROS: i64 = 86_400_000_000;

/// 2026-11-21T12:00:00Z.
pub const NOON: i64 = 1_795_262_400_000_000;

/// An id of a time.
pub fn id_at(micros: i64) -> Uuid {
    let seconds = u64::try_from(micros.div_euclid(1_000_000)).unwrap();
    let nanos = u32::try_from(micros.rem_euclid(1_000_000)).unwrap() * 1_000;
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanos))
}

/// A version with inputs of some types and as many classes.
pub fn version(model: &str, number: &str, types: &[TensorType]) -> Arc<RecordedVersion> {
    let inputs = types.iter().enumerate();
    let described = RecordedVersion {
        key: Uuid::nil(),
        model: model.to_owned(),
        version: number.to_owned(),
        digest: "00ff".repeat(16),
        inputs: inputs
            .map(|(at, tensor_type)| RecordedInput {
                name: format!("input \"{at}\" ä"),
                tensor_type: *tensor_type,
                feature: format!("view:{at}"),
                categories: Vec::new(),
            })
            .collect(),
        classes: vec!["good".to_owned(), "b\0d".to_owned()],
    };
    let text = described.to_json().unwrap();
    Arc::new(RecordedVersion::from_json(&text).unwrap())
}

/// A prediction of a time, of a version with one float.
pub fn entry(version: &Arc<RecordedVersion>, micros: i64) -> LedgerEntry {
    LedgerEntry {
        id: id_at(micros),
        at: at(micros),
        version: Arc::clone(version),
        role: Role::Answer,
        entity: vec![("loan_id".to_owned(), RawValue::Text("LC00001".to_owned()))],
        values: vec![RecordedValue {
            value: Value::Float(0.1),
            status: Some(FeatureStatus::Present),
            event_timestamp: Some(at(micros - 1)),
        }],
        violations: Vec::new(),
        outputs: Output::Float(vec![0.25, 0.75]),
        score: 0.75,
        label: Some(1),
        latency: Duration::from_micros(1_234),
    }
}

pub async fn append(store: &Store, entries: &[LedgerEntry]) {
    store.append_predictions(&entries.into()).await.unwrap();
}

pub fn everything() -> LedgerSpan {
    LedgerSpan {
        first: Uuid::nil(),
        end: Uuid::max(),
        model: None,
    }
}

/// Every page of a span.
pub async fn all(store: &Store, mut span: LedgerSpan, limit: usize) -> Vec<LedgerEntry> {
    let mut found = Vec::new();
    loop {
        let page = store.predictions(&span, limit).await.unwrap();
        assert!(page.entries.len() <= limit);
        found.extend(page.entries);
        match page.next {
            Some(next) => {
                assert!(next > span.first);
                span.first = next;
            }
            None => return found,
        }
    }
}

/// As text, in which a NaN is one and a zero has its sign.
fn shown(entry: &LedgerEntry) -> String {
    format!("{entry:?}")
}

const TYPES: [TensorType; 5] = [
    TensorType::Float,
    TensorType::Double,
    TensorType::Int64,
    TensorType::String,
    TensorType::Bool,
];

impl Random {
    fn any<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())].clone()
    }

    fn chance(&mut self) -> bool {
        self.below(2) == 0
    }

    fn double(&mut self) -> f64 {
        let known = [-0.0, 0.1, f64::MAX, 5e-324, f64::NEG_INFINITY, f64::NAN];
        match self.index(known.len() + 1) {
            at if at < known.len() => known[at],
            _ => f64::from_bits(self.below(1 << 62).unsigned_abs()),
        }
    }

    fn float(&mut self) -> f32 {
        let known = [-0.0, 0.1, f32::MAX, 1e-45, f32::INFINITY, f32::NAN];
        match self.index(known.len() + 1) {
            at if at < known.len() => known[at],
            _ => f32::from_bits(u32::try_from(self.below(1 << 31)).unwrap()),
        }
    }

    fn text(&mut self) -> String {
        let long = "long ".repeat(1_000);
        self.any(&["a", "A1", "ä\"\\\n", "term_36", "'; --", &long])
            .to_owned()
    }

    fn input(&mut self, tensor_type: TensorType) -> Value {
        if self.below(4) == 0 {
            return Value::Null;
        }
        match tensor_type {
            TensorType::Float => match self.float() {
                number if number.is_nan() => Value::Null,
                number => Value::Float(number),
            },
            TensorType::Double => match self.double() {
                number if number.is_nan() => Value::Null,
                number => Value::Double(number),
            },
            TensorType::Int64 => Value::Int64(self.any(&[0, 1, -1, 300, i64::MIN, i64::MAX])),
            TensorType::String => Value::String(self.text().into()),
            TensorType::Bool => Value::Bool(self.chance()),
        }
    }

    fn recorded(&mut self, tensor_type: TensorType, is_stored: bool) -> RecordedValue {
        let statuses = [
            FeatureStatus::Present,
            FeatureStatus::Null,
            FeatureStatus::NotFound,
            FeatureStatus::OutsideTtl,
        ];
        let times = [Timestamp::MICROS_MIN, -1, NOON, NOON, Timestamp::MICROS_MAX];
        let status = is_stored.then(|| self.any(&statuses));
        RecordedValue {
            value: self.input(tensor_type),
            event_timestamp: status
                .filter(|status| *status != FeatureStatus::NotFound)
                .map(|_| at(self.any(&times))),
            status,
        }
    }

    fn raw(&mut self) -> RawValue {
        let number = self.below(1_000_000).to_string().parse().unwrap();
        self.any(&[
            RawValue::Number(number),
            RawValue::Number(number / 7.0),
            RawValue::Text("9007199254740993".to_owned()),
            RawValue::Text("nul \0, quote \"".to_owned()),
            RawValue::Bool(true),
        ])
    }

    fn version(&mut self, number: usize) -> Arc<RecordedVersion> {
        let count = self.any(&[1, 4, 5, 22, 23]);
        let types: Vec<TensorType> = (0..count).map(|_| self.any(&TYPES)).collect();
        version("random", &number.to_string(), &types)
    }

    fn entry(&mut self, versions: &[Arc<RecordedVersion>]) -> LedgerEntry {
        let version = self.any(versions);
        let is_stored = self.chance();
        let inputs = version.inputs.iter();
        let values = inputs.map(|input| self.recorded(input.tensor_type, is_stored));
        let values: Vec<RecordedValue> = values.collect();
        let kinds = [
            ViolationKind::Missing,
            ViolationKind::TooOld,
            ViolationKind::OutOfRange,
            ViolationKind::UnknownCategory,
        ];
        let violations = (0..self.index(3)).map(|_| RecordedViolation {
            input: self.index(values.len()),
            kind: self.any(&kinds),
            is_defaulted: self.chance(),
        });
        let violations = violations.collect();
        let outputs = if self.chance() {
            Output::Float((0..3).map(|_| self.float()).collect())
        } else {
            Output::Double((0..1).map(|_| self.double()).collect())
        };
        let micros = NOON + self.below(3 * u64::try_from(DAY_MICROS).unwrap());
        let keys = ["a", "b c", "ä"];
        LedgerEntry {
            id: id_at(micros),
            at: at(micros - 77),
            role: self.any(&[Role::Answer, Role::Shadow]),
            entity: keys[..self.index(4)]
                .iter()
                .map(|key| ((*key).to_owned(), self.raw()))
                .collect(),
            values,
            violations,
            outputs,
            score: self.double(),
            label: self.any(&[None, Some(0), Some(1)]),
            latency: Duration::from_micros(self.below(1 << 40).unsigned_abs()),
            version,
        }
    }
}

async fn what_is_recorded_comes_back_to_the_bit(fixture: Fixture) {
    let mut random = Random::seeded();
    let versions: Vec<_> = (0..5).map(|number| random.version(number)).collect();
    let mut entries: Vec<_> = (0..500).map(|_| random.entry(&versions)).collect();
    for part in entries.chunks(100) {
        append(&fixture.store, part).await;
    }
    entries.sort_by_key(|entry| entry.id);
    // As another process reads them, which remembers no version.
    for store in [Arc::clone(&fixture.store), fixture.another().await] {
        let found = all(&store, everything(), 170).await;
        assert_eq!(found.len(), entries.len());
        for (found, entry) in found.iter().zip(&entries) {
            assert_eq!(shown(found), shown(entry));
        }
        for entry in entries.iter().step_by(50) {
            let found = store.prediction(entry.id).await.unwrap().unwrap();
            assert_eq!(shown(&found), shown(entry));
        }
        assert_eq!(store.prediction(id_at(NOON)).await.unwrap(), None);
    }
}

async fn a_prediction_is_kept_once(fixture: Fixture) {
    let version = version("m", "1", &[TensorType::Float]);
    let first = entry(&version, NOON);
    let other = LedgerEntry {
        score: 0.5,
        ..first.clone()
    };
    let new = entry(&version, NOON + 1);
    append(&fixture.store, &[]).await;
    append(&fixture.store, std::slice::from_ref(&first)).await;
    // As a write that was repeated, because nobody knew how it had ended.
    append(&fixture.store, &[other.clone(), new.clone(), other]).await;
    let mut expected = vec![first, new];
    expected.sort_by_key(|entry| entry.id);
    assert_eq!(all(&fixture.store, everything(), 10).await, expected);
}

async fn pages_follow_each_other_to_the_end(fixture: Fixture) {
    let version = version("m", "1", &[TensorType::Float]);
    let mut entries: Vec<_> = (0..30)
        .map(|hour| entry(&version, NOON + hour * 3_600_000_000))
        .collect();
    // Many of one millisecond.
    entries.extend((0..10).map(|_| entry(&version, NOON)));
    append(&fixture.store, &entries).await;
    entries.sort_by_key(|entry| entry.id);
    for limit in [1, 7, 20, 40, 41] {
        let found = all(&fixture.store, everything(), limit).await;
        assert_eq!(found, entries, "{limit}");
    }
    let part = |from: i64, to: i64| LedgerSpan {
        first: first_id_at(at(from)),
        end: first_id_at(at(to)),
        model: None,
    };
    // The first hour is in, the last is not: spans that follow each other have each prediction once.
    let hours = |hours: i64| NOON + hours * 3_600_000_000;
    let found = all(&fixture.store, part(hours(0), hours(6)), 7).await;
    assert_eq!(found, entries[..16]);
    let found = all(&fixture.store, part(hours(6), hours(40)), 7).await;
    assert_eq!(found, entries[16..]);
    assert_eq!(
        all(&fixture.store, part(hours(6), hours(6)), 7).await,
        [] as [LedgerEntry; 0]
    );
}

async fn a_model_has_its_own_predictions_and_versions(fixture: Fixture) {
    let rare = [
        version("rare", "1", &[TensorType::Float]),
        version("rare", "2", &[TensorType::Float]),
    ];
    let common = version("common", "1", &[TensorType::Float]);
    let mut entries: Vec<_> = (0..100)
        .map(|at| entry(&common, NOON + at * 1_000))
        .collect();
    let wanted = [
        entry(&rare[0], NOON + 30_500),
        entry(&rare[1], NOON + 200_000),
    ];
    entries.extend(wanted.clone());
    append(&fixture.store, &entries).await;
    let span = LedgerSpan {
        model: Some("rare".to_owned()),
        ..everything()
    };
    // Most pages have none of them.
    assert_eq!(all(&fixture.store, span.clone(), 10).await, wanted);
    assert_eq!(all(&fixture.store, span, 1_000).await, wanted);
    let keys = |versions: &[Arc<RecordedVersion>]| -> BTreeSet<Uuid> {
        versions.iter().map(|version| version.key).collect()
    };
    let known = fixture.store.recorded_versions("rare").await.unwrap();
    assert_eq!(keys(&known), keys(&rare));
    let unknown = fixture.store.recorded_versions("nobody's").await.unwrap();
    assert!(unknown.is_empty());
}

async fn days_that_are_too_old_go_and_the_others_stay(fixture: Fixture) {
    let version = version("m", "1", &[TensorType::Float]);
    let midnight = NOON - DAY_MICROS / 2;
    let old: Vec<_> = (0..2_500)
        .map(|number| entry(&version, midnight - 1 - number * 100_000_000))
        .collect();
    let kept = [
        entry(&version, midnight),
        entry(&version, NOON),
        entry(&version, NOON + DAY_MICROS),
    ];
    append(&fixture.store, &old).await;
    append(&fixture.store, &kept).await;
    assert_eq!(all(&fixture.store, everything(), 1_000).await.len(), 2_503);
    // A day goes as a whole: that of this afternoon has not ended.
    let afternoon = at(NOON + 1);
    assert!(fixture.store.drop_predictions(afternoon).await.unwrap());
    assert_eq!(all(&fixture.store, everything(), 1_000).await, kept);
    assert!(!fixture.store.drop_predictions(at(midnight)).await.unwrap());
    // One that comes late is kept again until the next look.
    append(&fixture.store, &old[..1]).await;
    let found = fixture.store.prediction(old[0].id).await.unwrap();
    assert_eq!(found.as_ref(), Some(&old[0]));
    assert_eq!(
        first_id_of_day(day_at(at(midnight))),
        first_id_at(at(midnight))
    );
}

async fn what_a_newer_server_wrote_is_named(fixture: Fixture) {
    let version = version("m", "1", &[TensorType::Float]);
    let known = entry(&version, NOON);
    append(&fixture.store, std::slice::from_ref(&known)).await;
    let bytes = |hex: &str| match fixture.is_sqlite() {
        true => format!("x'{hex}'"),
        false => format!("'\\x{hex}'"),
    };
    for (record, fault) in [
        ("02", "the form 2"),
        ("", "empty"),
        ("010000", "breaks off"),
    ] {
        fixture
            .execute(&format!(
                "UPDATE ferrocast_predictions SET record = {}",
                bytes(record)
            ))
            .await;
        let error = fixture.store.prediction(known.id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        for part in [fault, &known.id.to_string()] {
            assert!(error.message().contains(part), "{error}");
        }
    }
    fixture
        .execute("DELETE FROM ferrocast_prediction_versions")
        .await;
    let fresh = fixture.another().await;
    let error = fresh.prediction(known.id).await.unwrap_err();
    assert!(
        error.message().contains("ferrocast_prediction_versions"),
        "{error}"
    );
}

async fn two_servers_record_at_once(fixture: Fixture) {
    let stores = [Arc::clone(&fixture.store), fixture.another().await];
    let versions = [
        version("m", "1", &[TensorType::Float]),
        version("m", "2", &[TensorType::Float]),
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8_usize {
        let (store, versions) = (Arc::clone(&stores[writer % 2]), versions.clone());
        tasks.spawn(async move {
            // Every one on days that have no partition yet, in an order of its own.
            let entries: Vec<_> = (0..40)
                .map(|number| {
                    let day = i64::try_from((number + writer * 7) % 10).unwrap();
                    entry(&versions[number % 2], NOON + day * DAY_MICROS)
                })
                .collect();
            for part in entries.chunks(10) {
                append(&store, part).await;
            }
            entries.len()
        });
    }
    let written: usize = tasks.join_all().await.into_iter().sum();
    assert_eq!(all(&fixture.store, everything(), 100).await.len(), written);
}
