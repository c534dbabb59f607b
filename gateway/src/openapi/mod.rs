//! The OpenAPI 3.1 document, from the same descriptors and comments as the routes.

mod comments;
mod operation;
mod schema;

use std::collections::BTreeSet;

use prost_reflect::ServiceDescriptor;
use serde_json::{Map, Value as Json, json};

use crate::config::GatewayConfig;
use crate::rules::RouteTable;
use comments::{Comments, split_summary};
use schema::Schemas;

/// The name of the error schema; the dot and the small letter keep it apart from messages of a server.
const ERROR_SCHEMA: &str = "gateway.Error";

/// Writes the document; the same descriptors give the same document.
pub(crate) fn document(config: &GatewayConfig, table: &RouteTable) -> Json {
    let mut routes: Vec<_> = table.routes().iter().collect();
    routes.sort_by_key(|route| {
        let service = route.rpc.parent_service();
        (
            service.parent_file().index(),
            service.index(),
            route.rpc.index(),
            route.binding,
        )
    });
    let pools = routes.first().map(|route| route.rpc.parent_pool().clone());
    let comments = pools.as_ref().map(Comments::read).unwrap_or_default();
    let mut schemas = Schemas::new(pools.as_ref(), &comments);
    let mut paths: Map<String, Json> = Map::new();
    let mut services: Vec<ServiceDescriptor> = Vec::new();
    for route in routes {
        if !services.contains(route.rpc.parent_service()) {
            services.push(route.rpc.parent_service().clone());
        }
        let method = route.method.as_str().to_ascii_lowercase();
        let is_openapi_method = matches!(
            method.as_str(),
            "get" | "put" | "post" | "delete" | "options" | "head" | "patch" | "trace"
        );
        if !is_openapi_method {
            continue;
        }
        let (path, wildcards) = route.template.openapi_path();
        let operation = operation::operation(route, &wildcards, &mut schemas, &comments);
        if let Json::Object(item) = paths.entry(path).or_insert_with(|| json!({})) {
            item.insert(method, operation);
        }
    }
    let mut components = schemas.finish();
    components.insert(ERROR_SCHEMA.to_owned(), error_schema());
    let mut info = json!({"title": config.title, "version": config.version});
    if let (false, Some(info)) = (config.description.is_empty(), info.as_object_mut()) {
        info.insert(
            "description".to_owned(),
            Json::from(config.description.as_str()),
        );
    }
    json!({
        "openapi": "3.1.0",
        "info": info,
        "tags": tags(&services, &comments),
        "paths": paths,
        "components": {"schemas": components, "responses": {"Error": error_response()}},
    })
}

fn tags(services: &[ServiceDescriptor], comments: &Comments) -> Vec<Json> {
    let mut seen = BTreeSet::new();
    let mut tags = Vec::new();
    for service in services {
        if !seen.insert(service.name().to_owned()) {
            continue;
        }
        let mut tag = json!({"name": service.name()});
        let comment = comments.of(&service.parent_file(), service.path());
        if let (Some(comment), Some(tag)) = (comment, tag.as_object_mut()) {
            tag.insert("description".to_owned(), Json::from(comment));
        }
        tags.push(tag);
    }
    tags
}

fn error_response() -> Json {
    let schema = format!("#/components/schemas/{ERROR_SCHEMA}");
    json!({
        "description": "The request was not carried out. 400 INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE; \
            401 UNAUTHENTICATED; 403 PERMISSION_DENIED; 404 NOT_FOUND; 409 ABORTED, ALREADY_EXISTS; \
            429 RESOURCE_EXHAUSTED; 499 CANCELLED; 500 INTERNAL, UNKNOWN, DATA_LOSS; 501 UNIMPLEMENTED; \
            503 UNAVAILABLE; 504 DEADLINE_EXCEEDED.",
        "headers": {
            "x-request-id": {"description": "The request's id.", "schema": {"type": "string"}},
            "retry-after": {
                "description": "With 429 and 503: how many seconds to wait.",
                "schema": {"type": "integer", "minimum": 1},
            },
        },
        "content": {"application/json": {"schema": {"$ref": schema}}},
    })
}

fn error_schema() -> Json {
    json!({
        "type": "object",
        "description": "An error.",
        "required": ["code", "status", "message", "details", "requestId"],
        "properties": {
            "code": {"type": "integer", "description": "The HTTP status."},
            "status": {"type": "string", "description": "The name of the gRPC code.", "examples": ["NOT_FOUND"]},
            "message": {"type": "string", "description": "What is wrong, for people."},
            "details": {
                "type": "array",
                "description": "What is wrong, for programs: google.rpc.ErrorInfo, BadRequest, RetryInfo and others.",
                "items": {
                    "type": "object",
                    "required": ["@type"],
                    "properties": {"@type": {"type": "string"}},
                    "additionalProperties": true,
                },
            },
            "requestId": {"type": "string", "description": "Names the request in the server's log."},
        },
    })
}

/// The first sentence of a comment as "summary", the rest as "description".
fn insert_comment(object: &mut Map<String, Json>, comment: Option<&str>) {
    let Some(comment) = comment else {
        return;
    };
    let (summary, description) = split_summary(comment);
    object.insert("summary".to_owned(), Json::from(summary));
    if !description.is_empty() {
        object.insert("description".to_owned(), Json::from(description));
    }
}

#[cfg(test)]
mod tests;
