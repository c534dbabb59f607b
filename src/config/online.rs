//! The Redis that features are read from: its section of the configuration.

use std::{path::PathBuf, time::Duration};

use super::{CONNECTIONS_MAX, Secret, layers::Layers, millis, whole};

const PIPELINE_MAX: usize = 10_000;
const KEY_PREFIX_BYTES_MAX: usize = 64;

/// The Redis that features are read from.
#[derive(Debug, Clone)]
pub struct OnlineConfig {
    /// `redis://…` or `rediss://…`, which may hold passwords; none: features are read from the database.
    pub redis_urls: Vec<Secret>,
    /// Whether a single URL is a node of a cluster.
    pub redis_cluster: bool,
    /// Authorities that sign the servers' certificates; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// What every key begins with.
    pub key_prefix: String,
    /// Connections to a server, or to each node of a cluster.
    pub connections_max: usize,
    /// Keys of one command, commands of one request at once.
    pub pipeline_max: usize,
    /// How long connecting may take.
    pub connect_max: Duration,
    /// How long a command may take.
    pub command_max: Duration,
    /// How often a cluster is asked whether it has lost data.
    pub probe_interval: Duration,
}

/// Reads the section.
pub(super) fn read(layers: &mut Layers) -> OnlineConfig {
    // No colon: the prefix `a` must not be the beginning of somebody else's `a:b`.
    let is_prefix = |text: &String| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        (1..=KEY_PREFIX_BYTES_MAX).contains(&text.len()) && text.chars().all(is_plain)
    };
    let urls = layers.list("online.redis_urls").into_iter();
    OnlineConfig {
        redis_urls: urls.map(Secret::from).collect(),
        redis_cluster: layers.parse("online.redis_cluster", |_| true, "true or false"),
        ca_file: layers.text("online.ca_file").map(PathBuf::from),
        key_prefix: layers.parse(
            "online.key_prefix",
            is_prefix,
            "1 to 64 letters, digits, _, - or .",
        ),
        connections_max: whole(layers, "online.connections_max", 1, CONNECTIONS_MAX),
        pipeline_max: whole(layers, "online.pipeline_max", 1, PIPELINE_MAX),
        connect_max: millis(layers, "online.connect_ms_max", 1),
        command_max: millis(layers, "online.command_ms_max", 1),
        probe_interval: millis(layers, "online.probe_ms", 1),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use crate::{
        config::{Config, Flags},
        error::Result,
    };

    fn read(settings: &[(&str, &str)]) -> Result<Config> {
        let settings = settings.iter();
        let flags = Flags {
            settings: settings
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            config: None,
        };
        Config::from_layers(&flags, &BTreeMap::new(), |_| Vec::new())
    }

    #[test]
    fn urls_are_a_list_and_not_printed() {
        let config = read(&[("online.redis_urls", "redis://u:hunter2@a:1;redis://b:2")]).unwrap();
        assert_eq!(config.online.redis_urls.len(), 2);
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(read(&[]).unwrap().online.redis_urls.is_empty());
    }

    #[test]
    fn a_prefix_begins_no_other_one() {
        for bad in ["", "a:b", "a{b", "a*", &"a".repeat(65)] {
            let error = read(&[("online.key_prefix", bad)]).unwrap_err();
            assert!(error.message().contains("online.key_prefix"), "{error}");
        }
        let config = read(&[("online.key_prefix", "shop-1.prod_b")]).unwrap();
        assert_eq!(config.online.key_prefix, "shop-1.prod_b");
    }
}
