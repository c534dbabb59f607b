//! What tests of models share: copies of the repository's model, to break and to add versions to.

use std::{fs, path::Path};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::support::{models, text};

/// A copy of the repository's model, for a test to change.
pub fn copy_of_models() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(
        &models().join("credit_risk"),
        &dir.path().join("credit_risk"),
    );
    dir
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub fn edit_json(path: &Path, edit: impl FnOnce(&mut Json)) {
    let mut json: Json = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    edit(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

pub fn edit_text(path: &Path, from: &str, to: &str) {
    let old = fs::read_to_string(path).unwrap();
    assert!(old.contains(from), "{} holds {from}", path.display());
    fs::write(path, old.replace(from, to)).unwrap();
}

/// By the system's own program, so that the server's arithmetic is not its own witness.
pub fn sha256(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let done = std::process::Command::new("sha256sum")
        .arg(file.path())
        .output()
        .unwrap();
    text(&done.stdout).split(' ').next().unwrap().to_owned()
}

/// Adds a version that scores the other class, so that its answers can be told from version 1's: together they are 1.
pub fn add_opposite(models: &Path, version: &str) {
    let model = models.join("credit_risk");
    let made = models.join("being-made");
    copy(&model.join("1"), &made);
    edit_json(&made.join("signature.json"), |signature| {
        signature["version"] = json!(version);
        signature["positive_class"] = json!("good");
    });
    edit_json(&made.join("golden.json"), |golden| {
        for score in golden["scores"].as_array_mut().unwrap() {
            *score = json!(1.0 - score.as_f64().unwrap());
        }
    });
    fs::rename(&made, model.join(version)).unwrap();
}
