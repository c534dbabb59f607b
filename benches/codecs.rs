//! What messages cost on their way in and out: the request of a prediction, its answer, and 30 features of many entities in
//! both forms.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use divan::{Bencher, counter::BytesCount};
use ferrocast::grpc::pb;
use prost::Message;
use prost_types::{Struct, Value, value::Kind};

const FEATURES: usize = 30;
const ENTITIES: [usize; 2] = [1, 100];

fn main() {
    divan::main();
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

#[divan::bench]
fn predict_by_entity_decoded(bencher: Bencher<'_, '_>) {
    let key = value(Kind::StringValue("user-0000042".to_owned()));
    let request = pb::PredictByEntityRequest {
        model: "wide".to_owned(),
        entities: vec![Struct {
            fields: [("user_id".to_owned(), key)].into(),
        }],
        ..pb::PredictByEntityRequest::default()
    };
    let bytes = request.encode_to_vec();
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| pb::PredictByEntityRequest::decode(bytes.as_slice()).unwrap());
}

#[divan::bench]
fn prediction_encoded(bencher: Bencher<'_, '_>) {
    let prediction = pb::Prediction {
        prediction_id: "01997d3c-5a3e-7b62-a8f3-0123456789ab".to_owned(),
        score: 0.25,
        label: "0".to_owned(),
        probabilities: [("0".to_owned(), 0.75), ("1".to_owned(), 0.25)].into(),
        version: "1".to_owned(),
        ..pb::Prediction::default()
    };
    encode(
        bencher,
        &pb::PredictResponse {
            model: "wide".to_owned(),
            version: "1".to_owned(),
            predictions: vec![prediction],
        },
    );
}

#[divan::bench(args = ENTITIES)]
fn columns_encoded(bencher: Bencher<'_, '_>, entities: usize) {
    let column = |at: usize| pb::FeatureColumn {
        feature: format!("wide:f{at}"),
        values: vec![value(Kind::NumberValue(at as f64)); entities],
        statuses: vec![pb::FeatureStatus::Present.into(); entities],
        event_timestamps: vec![prost_types::Timestamp::default(); entities],
        age_bound: None,
    };
    let columns = (0..FEATURES).map(column).collect();
    encode(
        bencher,
        &pb::GetOnlineFeaturesResponse {
            columns,
            ..pb::GetOnlineFeaturesResponse::default()
        },
    );
}

#[divan::bench(args = ENTITIES)]
fn packed_encoded(bencher: Bencher<'_, '_>, entities: usize) {
    let column = |at: usize| pb::PackedFeatureColumn {
        values: Some(pb::TypedColumn {
            name: format!("wide:f{at}"),
            r#type: pb::ValueType::Double.into(),
            doubles: vec![at as f64; entities],
            ..pb::TypedColumn::default()
        }),
        statuses: vec![pb::FeatureStatus::Present.into(); entities],
        event_timestamps: vec![1_700_000_000_000_000; entities],
        age_bound: None,
    };
    let packed_columns = (0..FEATURES).map(column).collect();
    encode(
        bencher,
        &pb::GetOnlineFeaturesResponse {
            packed_columns,
            ..pb::GetOnlineFeaturesResponse::default()
        },
    );
}

fn encode(bencher: Bencher<'_, '_>, message: &impl Message) {
    let mut bytes = Vec::with_capacity(message.encoded_len());
    bencher
        .counter(BytesCount::new(message.encoded_len()))
        .bench_local(|| {
            bytes.clear();
            message.encode(&mut bytes).unwrap();
            bytes.len()
        });
}
