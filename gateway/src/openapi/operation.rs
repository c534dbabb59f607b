//! One operation of the document: one method and path of one rpc.

use prost_reflect::FieldDescriptor;
use serde_json::{Map, Value as Json, json};

use super::comments::Comments;
use super::insert_comment;
use super::schema::Schemas;
use crate::json::is_textual;
use crate::rules::{AnswerRule, BodyRule, Route, Wildcard};

/// How deep query parameters name the fields of nested messages.
const QUERY_DEPTH_MAX: usize = 4;

/// Describes a route.
pub(super) fn operation(
    route: &Route,
    wildcards: &[Wildcard],
    schemas: &mut Schemas<'_>,
    comments: &Comments,
) -> Json {
    let service = route.rpc.parent_service();
    let mut operation = Map::new();
    let suffix = match route.binding {
        0 => String::new(),
        binding => format!("_{}", binding + 1),
    };
    operation.insert(
        "operationId".to_owned(),
        Json::from(format!("{}_{}{suffix}", service.name(), route.rpc.name())),
    );
    operation.insert("tags".to_owned(), json!([service.name()]));
    let comment = comments.of(&route.rpc.parent_file(), route.rpc.path());
    insert_comment(&mut operation, comment);
    let mut parameters: Vec<Json> = wildcards
        .iter()
        .map(|wildcard| path_parameter(route, wildcard, schemas))
        .collect();
    if !matches!(route.body, BodyRule::All) {
        let mut way = Vec::new();
        query_parameters(route, &mut way, schemas, &mut parameters);
    }
    if !parameters.is_empty() {
        operation.insert("parameters".to_owned(), Json::Array(parameters));
    }
    if let Some(body) = request_body(route, schemas) {
        operation.insert("requestBody".to_owned(), body);
    }
    let answer = match &route.answer {
        AnswerRule::All(_) => schemas.message(&route.rpc.output()),
        AnswerRule::Field(field) => schemas.field(field),
    };
    operation.insert(
        "responses".to_owned(),
        json!({
            "200": success(answer, route.rpc.is_server_streaming()),
            "default": {"$ref": "#/components/responses/Error"},
        }),
    );
    Json::Object(operation)
}

fn success(schema: Json, is_stream: bool) -> Json {
    if is_stream {
        json!({
            "description": "A stream: one JSON object a line, or server-sent events where the request accepts \
                text/event-stream.",
            "content": {
                "application/x-ndjson": {"schema": schema.clone()},
                "text/event-stream": {"schema": schema},
            },
        })
    } else {
        json!({"description": "The answer.", "content": {"application/json": {"schema": schema}}})
    }
}

fn path_parameter(route: &Route, wildcard: &Wildcard, schemas: &mut Schemas<'_>) -> Json {
    let field = wildcard
        .variable
        .and_then(|index| route.variables.get(index))
        .and_then(|path| path.last());
    let mut parameter = json!({"name": wildcard.name, "in": "path", "required": true});
    let Some(object) = parameter.as_object_mut() else {
        return parameter;
    };
    match field {
        // A variable of several segments is one string; each of its wildcards is a part of that.
        Some(field) if wildcard.is_whole => {
            object.insert("schema".to_owned(), schemas.kind(&field.kind()));
        }
        _ => {
            object.insert("schema".to_owned(), json!({"type": "string"}));
        }
    }
    if let Some(comment) = field.and_then(|field| schemas.field_comment(field)) {
        object.insert("description".to_owned(), Json::from(comment));
    }
    parameter
}

fn query_parameters(
    route: &Route,
    way: &mut Vec<FieldDescriptor>,
    schemas: &mut Schemas<'_>,
    parameters: &mut Vec<Json>,
) {
    let message = match way.last() {
        Some(field) => field.kind().as_message().cloned(),
        None => Some(route.rpc.input()),
    };
    let Some(message) = message else {
        return;
    };
    for field in message.fields() {
        let is_body = matches!(&route.body, BodyRule::Field(body) if *body == field);
        if field.is_map() || way.is_empty() && is_body {
            continue;
        }
        way.push(field.clone());
        if is_textual(&field.kind()) {
            if !route.variables.contains(way) {
                parameters.push(query_parameter(way, &field, schemas));
            }
        } else if !field.is_list() && way.len() < QUERY_DEPTH_MAX {
            query_parameters(route, way, schemas, parameters);
        }
        way.pop();
    }
}

fn query_parameter(
    way: &[FieldDescriptor],
    field: &FieldDescriptor,
    schemas: &mut Schemas<'_>,
) -> Json {
    let names: Vec<_> = way.iter().map(FieldDescriptor::json_name).collect();
    let kind = schemas.kind(&field.kind());
    let schema = if field.is_list() {
        json!({"type": "array", "items": kind})
    } else {
        kind
    };
    let mut parameter = json!({"name": names.join("."), "in": "query", "schema": schema});
    if let (Some(comment), Some(object)) = (schemas.field_comment(field), parameter.as_object_mut())
    {
        object.insert("description".to_owned(), Json::from(comment));
    }
    parameter
}

fn request_body(route: &Route, schemas: &mut Schemas<'_>) -> Option<Json> {
    let schema = match &route.body {
        BodyRule::None => return None,
        BodyRule::Field(field) => schemas.field(field),
        BodyRule::All => {
            // A field inside a message of the path may still be in the body; only whole fields are left out.
            let whole = route.variables.iter().filter(|path| path.len() == 1);
            let in_path: Vec<&FieldDescriptor> = whole.filter_map(|path| path.first()).collect();
            match in_path.as_slice() {
                [] => schemas.message(&route.rpc.input()),
                in_path => schemas.object(&route.rpc.input(), in_path),
            }
        }
    };
    Some(json!({"required": true, "content": {"application/json": {"schema": schema}}}))
}
