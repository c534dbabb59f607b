//! What stands in files and has to agree with the code: layers, the README's table, the contract's snapshots.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ferrocast::{config::markdown_table, grpc::DESCRIPTOR_SET};
use prost_reflect::{DescriptorPool, Kind};

use crate::support::Running;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Each module, and what it may import of ours. Downward only: see ARCHITECTURE.md.
const LAYERS: [(&str, &[&str]); 20] = [
    ("error", &[]),
    ("memory", &[]),
    ("config", &["error"]),
    ("telemetry", &["error", "config"]),
    ("catalog", &["error"]),
    ("features", &["error", "catalog"]),
    ("inference", &["error", "memory", "catalog", "features"]),
    (
        "stores",
        &["error", "config", "catalog", "features", "inference"],
    ),
    ("sources", &["error", "config", "catalog", "features"]),
    ("training_sets", &["error", "catalog", "features"]),
    ("exports", &["error", "features", "inference"]),
    ("runtimes", &["error", "memory", "config", "inference"]),
    ("artifacts", &["error", "config", "inference"]),
    ("grpc", &["error", "catalog", "features", "inference"]),
    ("middleware", &["error", "grpc"]),
    ("webhooks", &["error", "config", "inference"]),
    (
        "app",
        &[
            "error",
            "memory",
            "config",
            "telemetry",
            "catalog",
            "features",
            "inference",
            "stores",
            "sources",
            "training_sets",
            "runtimes",
            "artifacts",
            "grpc",
            "middleware",
            "webhooks",
        ],
    ),
    (
        "cli",
        &[
            "error",
            "config",
            "telemetry",
            "catalog",
            "features",
            "inference",
            "stores",
            "sources",
            "training_sets",
            "exports",
            "app",
        ],
    ),
    ("lib", &[]),
    ("main", &[]),
];

fn source_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The top-level modules that a file names after `crate::`, whether alone or in a list of `use crate::{…}`.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for after in text.split("crate::").skip(1) {
        if let Some(list) = after.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => found.push(std::mem::take(&mut word)),
                    c if depth == 0 => word.push(c),
                    _ => {}
                }
            }
            found.push(word);
        } else {
            found.push(after.to_owned());
        }
    }
    found
        .iter()
        .map(|path| {
            let path = path.trim_start();
            let end = path
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(path.len());
            path[..end].to_owned()
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn imports_run_downward() {
    let src = root().join("src");
    let mut files = Vec::new();
    source_files(&src, &mut files);
    assert!(files.len() > 40);
    let mut seen = 0;
    for file in files {
        let relative = file.strip_prefix(&src).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap();
        let module = module.trim_end_matches(".rs");
        let (_, allowed) = LAYERS
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{module} has no layer"));
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            seen += 1;
            assert!(
                import == module || allowed.contains(&import.as_str()),
                "{}: {module} may not import {import}",
                relative.display()
            );
        }
    }
    assert!(seen > 100, "only {seen} imports were read");
}

#[test]
fn the_domain_knows_no_wire_no_sql_and_no_runtime() {
    let mut files = Vec::new();
    for module in ["catalog", "features", "inference"] {
        source_files(&root().join("src").join(module), &mut files);
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for foreign in [
            "tonic::",
            "prost",
            "rusqlite::",
            "tokio_postgres::",
            "ort::",
            "axum::",
            "object_store::",
            "reqwest::",
        ] {
            let used = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .any(|line| line.contains(foreign));
            assert!(!used, "{} uses {foreign}", file.display());
        }
    }
}

#[test]
fn the_readme_has_the_table_of_settings() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let table = markdown_table();
    assert!(
        readme.contains(&table),
        "README.md should hold this table:\n{table}"
    );
}

/// Holds a text against the reviewed one; UPDATE_SNAPSHOTS=1 writes it anew, for a review.
fn snapshot(name: &str, text: &str) {
    let path = root().join("tests/integration/snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, format!("{text}\n")).unwrap();
    }
    let reviewed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        reviewed.trim_end() == text.trim_end(),
        "{} is not what was reviewed; UPDATE_SNAPSHOTS=1 writes it anew, git diff shows the change",
        path.display()
    );
}

/// Every service, rpc, message and field with its number: what a client was generated from.
#[test]
fn the_protos_are_as_reviewed() {
    let pool = DescriptorPool::decode(DESCRIPTOR_SET).unwrap();
    let mut lines = Vec::new();
    for service in pool.services() {
        for method in service.methods() {
            lines.push(format!(
                "rpc {} ({}) returns ({})",
                method.full_name(),
                method.input().full_name(),
                method.output().full_name()
            ));
        }
    }
    for message in pool.all_messages() {
        if message.package_name() != "ferrocast.v1" {
            continue;
        }
        for field in message.fields() {
            let kind = match field.kind() {
                Kind::Message(message) => message.full_name().to_owned(),
                Kind::Enum(values) => values.full_name().to_owned(),
                scalar => format!("{scalar:?}").to_lowercase(),
            };
            lines.push(format!(
                "{} = {}: {kind} {:?} json={}",
                field.full_name(),
                field.number(),
                field.cardinality(),
                field.json_name()
            ));
        }
    }
    for values in pool.all_enums() {
        if values.package_name() == "ferrocast.v1" {
            for value in values.values() {
                lines.push(format!("{} = {}", value.full_name(), value.number()));
            }
        }
    }
    lines.sort();
    snapshot("protos.txt", &lines.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_is_as_reviewed() {
    let running = Running::start().await;
    let (_, document) = running.get("/openapi.json").await;
    snapshot(
        "openapi.json",
        &serde_json::to_string_pretty(&document).unwrap(),
    );
}
