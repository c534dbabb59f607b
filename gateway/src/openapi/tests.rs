//! The document of a small API, compared with a snapshot, and the rules of OpenAPI that a snapshot would not show.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use prost_reflect::DescriptorPool;
use serde_json::Value as Json;

use super::document;
use crate::config::GatewayConfig;
use crate::rules::RouteTable;

const SNAPSHOT: &str = "tests/snapshots/shop.openapi.json";

fn shop() -> Json {
    let mut compiler = protox::Compiler::new(["tests/proto", "../proto"]).unwrap();
    compiler.include_source_info(true).include_imports(true);
    compiler.open_file("shop.proto").unwrap();
    let pool = DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap();
    let config = GatewayConfig {
        title: "Shop".to_owned(),
        version: "1".to_owned(),
        ..GatewayConfig::default()
    };
    document(&config, &RouteTable::build(&pool).unwrap())
}

#[test]
fn the_document_is_as_in_the_snapshot() {
    let document = shop();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(
            SNAPSHOT,
            serde_json::to_string_pretty(&document).unwrap() + "\n",
        )
        .unwrap();
    }
    let snapshot: Json =
        serde_json::from_str(&std::fs::read_to_string(SNAPSHOT).unwrap_or_default())
            .expect("the snapshot is JSON; write it with UPDATE_SNAPSHOTS=1");
    assert!(
        document == snapshot,
        "the document changed; look at it with UPDATE_SNAPSHOTS=1 and git diff"
    );
}

#[test]
fn every_reference_leads_somewhere() {
    let document = shop();
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(
            document.pointer(pointer).is_some_and(Json::is_object),
            "{reference}"
        );
    }
}

#[test]
fn operation_ids_are_unique_and_path_parameters_are_in_the_path() {
    let document = shop();
    let mut ids = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            ids.push(operation["operationId"].as_str().unwrap().to_owned());
            let parameters = operation
                .get("parameters")
                .and_then(Json::as_array)
                .cloned()
                .unwrap_or_default();
            let in_path: Vec<_> = parameters.iter().filter(|p| p["in"] == "path").collect();
            assert_eq!(in_path.len(), path.matches('{').count(), "{path}");
            for parameter in in_path {
                assert!(path.contains(&format!("{{{}}}", parameter["name"].as_str().unwrap())));
                assert_eq!(parameter["required"], true);
            }
        }
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

fn collect_references(json: &Json, into: &mut Vec<String>) {
    match json {
        Json::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(reference) if name == "$ref" => into.push(reference.to_owned()),
                    _ => collect_references(value, into),
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}
