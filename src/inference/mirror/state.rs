//! What is held of a model, as its file on disk says: the only thing that makes a fetched version visible.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

/// The file, in the folder of the copy.
const STATE_FILE: &str = "state.json";

/// A version on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::inference) struct HeldVersion {
    /// Its folder's name.
    pub folder: String,
    /// The source's, when it was fetched.
    pub fingerprint: String,
}

/// What is held of a model. Written as a whole and renamed, so that versions and aliases change in one step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Where from, for people.
    pub location: String,
    /// By number.
    pub versions: BTreeMap<u64, HeldVersion>,
    /// The source's aliases; none: it has no say in them.
    pub aliases: Option<BTreeMap<String, u64>>,
    /// What each of those aliases meant when it last meant a version that was ready.
    pub answering: BTreeMap<String, u64>,
    /// The alias that answers where a request names no version.
    pub default_alias: Option<String>,
    /// Whether the source numbers versions itself.
    pub has_own_numbers: bool,
}

impl State {
    /// Reads what is there; nothing where nothing was ever fetched.
    pub(super) fn read(folder: &Path) -> io::Result<State> {
        match fs::read(folder.join(STATE_FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(State::default()),
            Err(fault) => Err(fault),
        }
    }

    /// Writes it in one step.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(folder.join(STATE_FILE))?;
        Ok(())
    }

    /// Lets go of old versions beyond a bound: the highest numbers stay, and all that something means.
    pub(super) fn keep(&mut self, versions_max: usize, is_meant: impl Fn(u64) -> bool) {
        let aliases = self.aliases.iter().flatten().chain(&self.answering);
        let aliased: Vec<u64> = aliases.map(|(_, number)| *number).collect();
        let (kept, others): (Vec<u64>, Vec<u64>) = self
            .versions
            .keys()
            .copied()
            .partition(|number| aliased.contains(number) || is_meant(*number));
        let room = versions_max.saturating_sub(kept.len());
        let let_go = others.iter().rev().skip(room);
        for number in let_go {
            self.versions.remove(number);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn holding(numbers: &[u64]) -> State {
        let held = |number: &u64| {
            let folder = format!("{number}-x");
            let fingerprint = "x".to_owned();
            (
                *number,
                HeldVersion {
                    folder,
                    fingerprint,
                },
            )
        };
        State {
            versions: numbers.iter().map(held).collect(),
            ..State::default()
        }
    }

    fn numbers(state: &State) -> Vec<u64> {
        state.versions.keys().copied().collect()
    }

    #[test]
    fn old_versions_go_and_those_that_are_meant_stay() {
        let mut state = holding(&[1, 2, 3, 4, 5, 6]);
        state.aliases = Some(BTreeMap::from([("champion".to_owned(), 6)]));
        state.answering = BTreeMap::from([("champion".to_owned(), 2)]);
        state.keep(4, |number| number == 1);
        assert_eq!(numbers(&state), [1, 2, 5, 6]);
        // More are meant than the bound allows: none of them goes.
        state.keep(2, |number| number == 1);
        assert_eq!(numbers(&state), [1, 2, 6]);
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(State::read(dir.path()).unwrap(), State::default());
        let state = holding(&[7]);
        state.write(dir.path()).unwrap();
        assert_eq!(State::read(dir.path()).unwrap(), state);
        fs::write(dir.path().join(STATE_FILE), "{").unwrap();
        assert!(State::read(dir.path()).is_err());
    }
}
