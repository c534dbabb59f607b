//! What a person reads when the server is up: what is served where, and commands to paste.

use std::{fmt::Write, path::Path};

use super::Server;
use crate::inference::{Model, VersionState};

/// Where `make tools` puts a grpcurl.
const LOCAL_GRPCURL: &str = ".tools/bin/grpcurl";

/// The text of the banner.
pub fn banner(server: &Server) -> String {
    let mut text = String::new();
    let grpc = server.grpc_addr();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\nFerrocast is up.");
    let _ = writeln!(text, "  gRPC   {grpc}   (health, reflection)");
    if let Some(http) = server.http_addr() {
        let _ = writeln!(text, "  REST   http://{http}   (docs, OpenAPI)");
    }
    if let Some(redis) = server.redis_address() {
        let _ = writeln!(text, "  Redis  {redis}   (features are read from it)");
    }
    for model in server.models().values() {
        let _ = writeln!(text, "  model  {}", describe(model));
    }
    let example = server
        .models()
        .values()
        .find(|model| !model.example.is_empty() && model.resolve("").is_ok());
    if let Some(model) = example {
        let entities = format!(
            r#""entities":[{}]"#,
            serde_json::Value::Object(model.example.clone())
        );
        let is_brought = Path::new(LOCAL_GRPCURL).is_file();
        let grpcurl = if is_brought { LOCAL_GRPCURL } else { "grpcurl" };
        let hint = if is_brought {
            ""
        } else {
            " (`make tools` brings grpcurl)"
        };
        let _ = writeln!(text, "\nTry:{hint}");
        let _ = writeln!(
            text,
            "  {grpcurl} -plaintext -d '{{\"model\":\"{}\",{entities}}}' {grpc} ferrocast.v1.PredictionService/PredictByEntity",
            model.name
        );
        if let Some(http) = server.http_addr() {
            let _ = writeln!(
                text,
                "  curl -s http://{http}/v1/models/{}:predictByEntity -d '{{{entities},\"includeFeatures\":true}}'",
                model.name
            );
        }
    }
    if let Some(http) = server.http_addr() {
        let _ = writeln!(text, "  open http://{http}/docs");
    }
    text
}

fn describe(model: &Model) -> String {
    let versions: Vec<String> = model
        .versions
        .iter()
        .map(|version| match &version.state {
            VersionState::Ready(_) => format!("version {} ready", version.version),
            VersionState::Refused(reason) => {
                format!("version {} REFUSED: {reason}", version.version)
            }
            VersionState::Unloaded => format!("version {} unloaded", version.version),
        })
        .collect();
    match &model.reason {
        Some(reason) => format!("{}: REFUSED: {reason}", model.name),
        None => format!("{}: {}", model.name, versions.join(", ")),
    }
}
