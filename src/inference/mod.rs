//! Inference: signature, layout, the `Runtime` trait, versions and their release, prediction, prediction jobs.
//!
//! Knows the catalog and features; nothing of ort, SQL or the wire. `runtimes` implement `Runtime`, `stores` keep releases,
//! `grpc` calls `Predictor` and `Lifecycle`, which loads a `Repository` into a `ModelRegistry`.

mod announce;
mod batch;
mod binding;
mod counters;
mod definition;
mod drift;
mod explain;
mod fallback;
mod golden;
mod jobs;
mod layout;
mod ledger;
mod lifecycle;
mod mirror;
mod output;
mod pace;
mod policy;
mod predict;
mod referee;
mod registry;
mod release;
mod repository;
mod runtime;
mod scored;
mod signature;
mod signature_checks;
mod stamp;
mod targets;
mod version;
mod workers;

pub use batch::{Batch, TensorData};
pub use counters::VersionCounters;
pub use definition::{InputPolicy, ModelDefinition, Policy};
pub use drift::{Drift, DriftReport, Profile};
pub use explain::Explanation;
pub use fallback::{Constant, Fallback, FallbackCounters};
pub use jobs::{
    ChunkResult, ClaimRequest, ClaimedJob, Expired, Hold, JobBounds, JobEnd, JobError, JobFilter,
    JobOptions, JobPage, JobPrediction, JobState, JobStore, Jobs, NewJob, PinnedVersion,
    PredictionJob, Submission, sweep, work,
};
pub use layout::Layout;
pub use ledger::{
    Ledger, LedgerEntry, LedgerOptions, LedgerPage, LedgerSpan, LedgerStatus, LedgerStore,
    RecordedInput, RecordedValue, RecordedVersion, RecordedViolation, Replay, SAMPLE_WHOLE, day_at,
    day_of, first_id_at, first_id_of_day, id_after, is_sampled,
};
pub use lifecycle::Lifecycle;
pub use mirror::{
    ByteStream, CopyStatus, Mirror, MirrorOptions, ModelCopy, Offer, OfferedVersion, VersionSource,
    VersionSources, Wanted,
};
pub use output::{AnswerShape, Output};
pub use policy::{BoundInput, InputViolation, InvalidPolicy, MissingPolicy, ViolationKind};
pub use predict::{Predictor, ShadowOptions, Shadows, Subject, Target};
pub use registry::{
    Model, ModelRegistry, ModelSource, ModelVersion, Models, ReadyVersion, Route, VersionState,
};
pub use release::{
    Author, EventKind, Release, ReleaseChange, ReleaseEvent, ReleaseStore, Releases, Share,
    Traffic, WEIGHT_WHOLE, bucket_of,
};
pub use repository::{Known, LoadOptions, Look, Repository, version_number};
pub use runtime::{ModelFiles, Runtime, RuntimeLoader, cannot_explain};
pub use scored::{Answerer, Prediction, Predictions, Role, ScoredBatch};
pub use signature::{
    ExplainedBy, GoldenFile, Input, Interpreted, Signature, Task, Tensor, TensorType,
};
pub use workers::{Aside, Workers};
