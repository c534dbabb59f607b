//! A request's path, query and body into the rpc's message; the rpc's answer into JSON.

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor};

use crate::fault::Fault;
use crate::json::{is_textual, parse_text, read_field, read_message, write_field, write_wire};
use crate::rules::{AnswerRule, BodyRule, Route, decode};

/// Reads the body into the rpc's message.
///
/// # Errors
/// 400 that names the field at fault.
pub(crate) fn body_message(
    route: &Route,
    body: &[u8],
    json_depth_max: usize,
) -> Result<DynamicMessage, Fault> {
    let input = route.rpc.input();
    match &route.body {
        BodyRule::All => read_message(input, body, json_depth_max),
        BodyRule::Field(field) => read_field(input, field, body, json_depth_max),
        BodyRule::None if body.iter().all(u8::is_ascii_whitespace) => {
            Ok(DynamicMessage::new(input))
        }
        BodyRule::None => Err(Fault::invalid(format!(
            "{} takes no body",
            route.rpc.name()
        ))),
    }
}

/// Fills in what the query and the path's variables (their raw text, in order) say.
///
/// # Errors
/// 400 that names the field at fault.
pub(crate) fn bind(
    route: &Route,
    query: &str,
    captured: &[Vec<&str>],
    message: &mut DynamicMessage,
) -> Result<(), Fault> {
    bind_query(route, query, message)?;
    for (path, captured) in route.variables.iter().zip(captured) {
        bind_variable(message, path, captured)?;
    }
    Ok(())
}

/// The message as the wire carries it.
pub(crate) fn encoded(message: &DynamicMessage) -> Bytes {
    message.encode_to_vec().into()
}

/// Writes the rpc's answer, or the field of it that the route sends.
///
/// # Errors
/// 500 where the bytes are not what the descriptors say.
pub(crate) fn answer_json(route: &Route, bytes: Bytes) -> Result<Vec<u8>, Fault> {
    let json = match &route.answer {
        AnswerRule::All(plan) => write_wire(plan, &bytes),
        AnswerRule::Field(field) => {
            let output = route.rpc.output();
            let message = DynamicMessage::decode(output, bytes).map_err(Fault::bad_answer)?;
            write_field(&message, field)
        }
    };
    json.map_err(Fault::bad_answer)
}

fn bind_variable(
    message: &mut DynamicMessage,
    path: &[FieldDescriptor],
    captured: &[&str],
) -> Result<(), Fault> {
    let name = dotted(path);
    let text =
        decode(captured).map_err(|()| Fault::invalid_field(&name, "the path is not UTF-8"))?;
    let Some((last, way)) = path.split_last() else {
        return Ok(());
    };
    let value =
        parse_text(&last.kind(), &text).map_err(|reason| Fault::invalid_field(&name, &reason))?;
    let target = descend(message, way)?;
    if target.has_field(last) && *target.get_field(last) != value {
        let reason = format!("the path says {text:?}, the body something else");
        return Err(Fault::invalid_field(&name, &reason));
    }
    target.set_field(last, value);
    Ok(())
}

fn bind_query(route: &Route, query: &str, message: &mut DynamicMessage) -> Result<(), Fault> {
    let mut bound: Vec<String> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, text) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, text) = (query_text(key)?, query_text(text)?);
        let path = query_path(route, &key)?;
        let Some((last, way)) = path.split_last() else {
            continue;
        };
        let value = parse_text(&last.kind(), &text)
            .map_err(|reason| Fault::invalid_field(&key, &reason))?;
        let target = descend(message, way)?;
        if last.is_list() {
            if let Some(list) = target.get_field_mut(last).as_list_mut() {
                list.push(value);
            }
            continue;
        }
        let name = dotted(&path);
        if bound.contains(&name) {
            return Err(Fault::invalid_field(&key, "it is given more than once"));
        }
        bound.push(name);
        target.set_field(last, value);
    }
    Ok(())
}

/// The way to the field that a query parameter names, by JSON or proto names with dots between.
fn query_path(route: &Route, key: &str) -> Result<Vec<FieldDescriptor>, Fault> {
    let fault = |reason: &str| Err(Fault::invalid_field(key, reason));
    if matches!(route.body, BodyRule::All) {
        return fault("the fields of this request come from the body, not from the query");
    }
    let mut message: Option<MessageDescriptor> = Some(route.rpc.input());
    let mut path: Vec<FieldDescriptor> = Vec::new();
    for name in key.split('.') {
        let field = message.and_then(|message| {
            message
                .get_field_by_json_name(name)
                .or_else(|| message.get_field_by_name(name))
        });
        let Some(field) = field else {
            return fault("there is no such field");
        };
        let is_singular = !field.is_list() && !field.is_map();
        message = field.kind().as_message().filter(|_| is_singular).cloned();
        path.push(field);
    }
    let in_body =
        |field: &FieldDescriptor| matches!(&route.body, BodyRule::Field(body) if body == field);
    match (path.first(), path.last()) {
        (Some(first), _) if in_body(first) => fault("this field comes from the body"),
        _ if route.variables.contains(&path) => fault("this field comes from the path"),
        (_, Some(last)) if last.is_map() || !is_textual(&last.kind()) => {
            fault("this field is a message, which a query cannot fill")
        }
        _ => Ok(path),
    }
}

/// The message at the end of the way, made where it is not there yet; the way was checked to lead through messages.
fn descend<'m>(
    message: &'m mut DynamicMessage,
    way: &[FieldDescriptor],
) -> Result<&'m mut DynamicMessage, Fault> {
    let mut target = message;
    for field in way {
        target = target
            .get_field_mut(field)
            .as_message_mut()
            .ok_or_else(|| Fault::invalid_field(field.json_name(), "it is not a message"))?;
    }
    Ok(target)
}

fn dotted(path: &[FieldDescriptor]) -> String {
    let names: Vec<_> = path.iter().map(FieldDescriptor::json_name).collect();
    names.join(".")
}

fn query_text(raw: &str) -> Result<String, Fault> {
    let spaced = raw.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .map(String::from)
        .map_err(|_| Fault::invalid("the query is not UTF-8"))
}
