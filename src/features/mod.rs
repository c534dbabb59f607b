//! Features: key, value and row; reading with freshness, writing, materialization.
//!
//! Knows the catalog, and nothing of SQL, files or the wire: `stores` implement `OnlineStore`, `sources` implement
//! `RowSource`, `grpc` and `cli` call.

mod as_of;
mod asked;
mod cache;
mod column_statistics;
mod columns;
mod digest;
mod distinct;
mod feature_table;
mod front;
mod joined;
mod keys;
mod list;
mod materialize;
mod raw;
mod read;
mod read_row;
mod row;
mod statistics;
mod storable;
mod store;
mod training_set;
mod value;
mod write;

pub use as_of::AsOf;
pub use asked::{AskedFeatures, SelectedFeatures, ServiceSelections};
pub use cache::{CacheBounds, RowCache};
pub(crate) use cache::{put_key, put_part, take_part};
pub use columns::{Cells, KeyColumn, WriteColumn, WriteTarget, column_keys, column_rows};
pub(crate) use digest::definition_digest;
pub use feature_table::{FeatureColumn, FeatureTable, FeatureValue};
pub use front::FrontStore;
pub use joined::JoinBounds;
pub use keys::{entity_keys, entity_keys_at, key_of};
pub use list::ListValue;
pub(crate) use list::float_name;
pub use materialize::{
    LoadDone, LoadPlan, LoadProgress, MaterializeOptions, MaterializeOutcome, Materializer,
    ProgressSink, QUERY_SOURCE, ROW_BATCH_ROWS, RowSource, SourceFile, Sources, ViewSource,
    views_to_load,
};
pub(crate) use raw::is_exact_whole;
pub use raw::{RawFields, RawRow, RawValue, request_faults};
pub use read::{
    FeatureSelection, FeatureStatus, Freshness, ViewSelection, check_values, read_features,
};
pub use read_row::{ReadRow, ReadRows};
pub use row::{RowTime, StoredRow, WriteRow};
pub use statistics::{Distribution, FeatureStatistics, QUANTILES, ViewStatistics, view_statistics};
pub use storable::{KEY_BYTES_MAX, key_fault, value_fault};
pub use store::{
    LoadInput, Materialization, MaterializationRecord, OnlineStore, RowBatches, RowSink, Scan,
    WriteCounts, watermark,
};
pub use training_set::{SPINE_TIMESTAMP_FIELD, TrainingSetRequest, TrainingSets};
pub use value::{EXACT_WHOLE_MAX, EntityKey, KeyValues, Timestamp, Value, widen};
pub use write::typed_rows;
