//! What leaves the store as a file for others to read: predictions of the ledger, as Parquet.
//!
//! A file is there when it is whole: it is written beside its place, under another name, and renamed at the end.

mod columns;
mod predictions;

pub use predictions::export_predictions;
