//! Every setting there is: its name, default and meaning. The README's table is made from this list.

mod models;
mod server;
mod stores;

use self::{models::MODELS, server::SERVER, stores::STORES};

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in the configuration file, `section.name`.
    pub key: &'static str,
    /// What it is where nobody sets it; empty: not set.
    pub default: &'static str,
    /// What it does, with its unit.
    pub doc: &'static str,
}

impl Setting {
    /// Its name in the environment.
    pub fn env_name(&self) -> String {
        format!("FERROCAST_{}", self.key.replace('.', "_").to_uppercase())
    }
}

const fn setting(key: &'static str, default: &'static str, doc: &'static str) -> Setting {
    Setting { key, default, doc }
}

/// Every setting, by section.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    [SERVER, STORES, MODELS].into_iter().flatten()
}

/// The README's configuration table, in Markdown.
pub fn markdown_table() -> String {
    let mut table = String::from("| setting | default | what it does |\n|---|---|---|\n");
    for setting in settings() {
        let default = match setting.default {
            "" => "—".to_owned(),
            default => format!("`{default}`"),
        };
        table.push_str(&format!(
            "| `{}` | {default} | {} |\n",
            setting.key, setting.doc
        ));
    }
    table
}
