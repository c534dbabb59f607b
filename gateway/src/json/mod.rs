//! The JSON mapping of protobuf: bodies in, answers out, and single values from paths and queries.

mod depth;
mod message;
mod read;
mod scalar;
mod wire;
mod write;

pub(crate) use depth::depth_exceeds;
pub use message::message_to_json;
pub(crate) use read::{read_field, read_message};
pub(crate) use scalar::{is_textual, parse_text};
pub(crate) use wire::{AnswerPlan, write_wire};
#[cfg(test)]
pub(crate) use write::write_message;
pub(crate) use write::{to_json_value, write_field};
