//! Reads the `google.api.http` annotation (extension 72295728 of MethodOptions) off an rpc.

use http::Method;
use prost_reflect::{DescriptorPool, DynamicMessage, ExtensionDescriptor, MethodDescriptor, Value};

/// The extension's published number.
const HTTP_EXTENSION: u32 = 72_295_728;

/// One method and path of an rpc, as written.
pub(super) struct Annotation {
    /// The HTTP method.
    pub(super) method: Method,
    /// The path template.
    pub(super) path: String,
    /// "*", a field's name, or empty.
    pub(super) body: String,
    /// A field's name, or empty.
    pub(super) response_body: String,
}

/// Finds the extension in the pool; a pool without it has no annotated rpc.
pub(super) fn http_extension(pool: &DescriptorPool) -> Option<ExtensionDescriptor> {
    pool.get_extension_by_name("google.api.http")
        .filter(|extension| extension.number() == HTTP_EXTENSION)
        .or_else(|| {
            pool.get_message_by_name("google.protobuf.MethodOptions")?
                .get_extension(HTTP_EXTENSION)
        })
}

/// Reads the rpc's annotations, the additional bindings among them; empty where it has none.
pub(super) fn annotations(
    extension: &ExtensionDescriptor,
    rpc: &MethodDescriptor,
) -> Result<Vec<Annotation>, String> {
    let options = rpc.options();
    if !options.has_extension(extension) {
        return Ok(Vec::new());
    }
    let value = options.get_extension(extension);
    let Value::Message(rule) = value.as_ref() else {
        return Err("the google.api.http option is not a message".to_owned());
    };
    let mut found = vec![annotation(rule)?];
    if let Some(more) = rule.get_field_by_name("additional_bindings") {
        for binding in more.as_list().unwrap_or_default() {
            let binding = binding
                .as_message()
                .ok_or("an additional binding is not a message")?;
            found.push(annotation(binding)?);
        }
    }
    Ok(found)
}

fn annotation(rule: &DynamicMessage) -> Result<Annotation, String> {
    let (method, path) = pattern(rule)?;
    Ok(Annotation {
        method,
        path,
        body: text(rule, "body"),
        response_body: text(rule, "response_body"),
    })
}

fn pattern(rule: &DynamicMessage) -> Result<(Method, String), String> {
    let named = [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ];
    for (field, method) in named {
        if rule.has_field_by_name(field) {
            return Ok((method, text(rule, field)));
        }
    }
    let custom = rule
        .has_field_by_name("custom")
        .then(|| rule.get_field_by_name("custom"))
        .flatten();
    let Some(custom) = custom.as_ref().and_then(|value| value.as_message()) else {
        return Err("the rule has no method and path".to_owned());
    };
    let kind = text(custom, "kind");
    let method = Method::from_bytes(kind.as_bytes())
        .map_err(|_| format!("{kind:?} is not an HTTP method"))?;
    Ok((method, text(custom, "path")))
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message
        .get_field_by_name(field)
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
