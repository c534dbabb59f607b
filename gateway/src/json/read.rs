//! JSON to protobuf, with the place of a fault in the answer.

use prost_reflect::{DeserializeOptions, DynamicMessage, FieldDescriptor, MessageDescriptor};
use serde::de::IgnoredAny;
use serde_json::error::Category;

use super::depth_exceeds;
use crate::fault::Fault;

/// Reads a message; an empty text is an empty message.
///
/// # Errors
/// 400 with line and column where the text is no JSON, with the field where it does not fit the message.
pub(crate) fn read_message(
    descriptor: MessageDescriptor,
    json: &[u8],
    depth_max: usize,
) -> Result<DynamicMessage, Fault> {
    if json.iter().all(u8::is_ascii_whitespace) {
        return Ok(DynamicMessage::new(descriptor));
    }
    if depth_exceeds(json, depth_max) {
        return Err(Fault::invalid(format!(
            "the body is nested deeper than {depth_max} levels"
        )));
    }
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read =
        DynamicMessage::deserialize_with_options(descriptor.clone(), &mut deserializer, &options);
    let message = read.map_err(|error| located(&error, descriptor, json, &options))?;
    deserializer.end().map_err(|error| fault(&error, "."))?;
    Ok(message)
}

/// A fault with its place, for which the text is read once more: to keep track of it takes every name.
fn located(
    error: &serde_json::Error,
    descriptor: MessageDescriptor,
    json: &[u8],
    options: &DeserializeOptions,
) -> Fault {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut deserializer, &mut track);
    match DynamicMessage::deserialize_with_options(descriptor, tracked, options) {
        Ok(_) => fault(error, "."),
        Err(error) => fault(&error, &track.path().to_string()),
    }
}

/// Reads one field of a message from a body that holds nothing but its value.
///
/// # Errors
/// As [`read_message`].
pub(crate) fn read_field(
    descriptor: MessageDescriptor,
    field: &FieldDescriptor,
    json: &[u8],
    depth_max: usize,
) -> Result<DynamicMessage, Fault> {
    if json.iter().all(u8::is_ascii_whitespace) {
        return Ok(DynamicMessage::new(descriptor));
    }
    if depth_exceeds(json, depth_max) {
        return Err(Fault::invalid(format!(
            "the body is nested deeper than {depth_max} levels"
        )));
    }
    // Checked alone first, so that line and column are those of the body, and no body can close the wrapper.
    serde_json::from_slice::<IgnoredAny>(json).map_err(|error| fault(&error, "."))?;
    let mut wrapped = format!("{{\"{}\":", field.json_name()).into_bytes();
    wrapped.extend_from_slice(json);
    wrapped.push(b'}');
    read_message(descriptor, &wrapped, depth_max + 1)
}

fn fault(error: &serde_json::Error, path: &str) -> Fault {
    match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => {
            Fault::invalid(format!("the body is not JSON: {error}"))
        }
        Category::Data => {
            let text = error.to_string();
            let at_root = matches!(path, "." | "");
            match unknown_field(&text) {
                Some(name) if at_root => Fault::invalid_field(name, "there is no such field"),
                Some(name) => {
                    Fault::invalid_field(&format!("{path}.{name}"), "there is no such field")
                }
                None if at_root => Fault::invalid(format!("the body does not fit: {text}")),
                None => Fault::invalid_field(path, &text),
            }
        }
    }
}

fn unknown_field(error: &str) -> Option<&str> {
    let (name, _) = error
        .strip_prefix("unrecognized field name '")?
        .rsplit_once('\'')?;
    Some(name)
}
