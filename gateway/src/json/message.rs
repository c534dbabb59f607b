//! A message outside any request, as a command line prints it.

use prost_reflect::{DescriptorPool, DynamicMessage};

use super::write::MessageJson;
use crate::error::GatewayError;

/// Writes an encoded message as the gateway answers with it, indented.
///
/// `descriptor_set` is an encoded `FileDescriptorSet`, `name` the message's full name.
///
/// # Errors
/// The descriptors cannot be read or do not have the message, the bytes are not one, or a value is nothing that JSON
/// can say.
pub fn message_to_json(
    descriptor_set: &[u8],
    name: &str,
    message: &[u8],
) -> Result<String, GatewayError> {
    let fault = |reason: String| GatewayError::Message {
        message: name.to_owned(),
        reason,
    };
    let pool = DescriptorPool::decode(descriptor_set)
        .map_err(|error| GatewayError::Descriptors(error.to_string()))?;
    let descriptor = pool
        .get_message_by_name(name)
        .ok_or_else(|| fault("the descriptors do not have it".to_owned()))?;
    let message =
        DynamicMessage::decode(descriptor, message).map_err(|error| fault(error.to_string()))?;
    serde_json::to_string_pretty(&MessageJson::new(&message))
        .map_err(|error| fault(error.to_string()))
}
