//! A user's credentials as AWS's programs keep them, `~/.aws/credentials`.

use std::{fs, io, path::Path};

use ini::Ini;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};

use crate::config::Secret;

const DEFAULT_PROFILE: &str = "default";

/// The keys of one profile.
pub(super) struct AwsProfile {
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Option<Secret>,
}

impl AwsProfile {
    /// Reads a profile; none where there is no such file, or no default profile in it.
    ///
    /// # Errors
    /// A sentence, without anything that stands in the file: a profile that was asked for and is not there, or has no keys.
    pub(super) fn read(path: &Path, name: Option<&str>) -> Result<Option<AwsProfile>, String> {
        let place = path.display();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound && name.is_none() => {
                return Ok(None);
            }
            Err(fault) => return Err(format!("{place}: cannot be read: {fault}")),
        };
        // Nothing of the line may be shown.
        let file = Ini::load_from_str_noescape(&text)
            .map_err(|fault| format!("{place}: line {} cannot be read", fault.line))?;
        let Some(section) = file.section(Some(name.unwrap_or(DEFAULT_PROFILE))) else {
            return match name {
                Some(name) => Err(format!("{place}: there is no profile \"{name}\"")),
                None => Ok(None),
            };
        };
        let shown = name.unwrap_or(DEFAULT_PROFILE);
        let key = |key: &str| section.get(key).map(str::to_owned);
        match (key("aws_access_key_id"), key("aws_secret_access_key")) {
            (Some(access_key_id), Some(secret)) => Ok(Some(AwsProfile {
                access_key_id,
                secret_access_key: Secret::from(secret),
                session_token: key("aws_session_token").map(Secret::from),
            })),
            _ => Err(format!(
                "{place}: the profile \"{shown}\" has no aws_access_key_id and aws_secret_access_key; other kinds are not read"
            )),
        }
    }

    /// Signs requests with the profile's keys.
    pub(super) fn apply(self, builder: AmazonS3Builder) -> AmazonS3Builder {
        let builder = builder
            .with_config(Key::AccessKeyId, self.access_key_id)
            .with_config(Key::SecretAccessKey, self.secret_access_key.reveal());
        match self.session_token {
            Some(token) => builder.with_config(Key::Token, token.reveal()),
            None => builder,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str, name: Option<&str>) -> Result<Option<AwsProfile>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        AwsProfile::read(file.path(), name)
    }

    const TWO: &str = "[default]\naws_access_key_id = A\naws_secret_access_key = a/b+c\\d\n\
        [work]\naws_access_key_id=B\naws_secret_access_key=hunter2\naws_session_token = t\n";

    #[test]
    fn profiles_are_found_by_name() {
        let profile = read(TWO, None).unwrap().unwrap();
        assert_eq!(profile.access_key_id, "A");
        assert_eq!(profile.secret_access_key.reveal(), "a/b+c\\d");
        let builder = read(TWO, Some("work"))
            .unwrap()
            .unwrap()
            .apply(AmazonS3Builder::new());
        let set = |key| builder.get_config_value(&key);
        assert_eq!(set(Key::AccessKeyId).as_deref(), Some("B"));
        assert_eq!(set(Key::Token).as_deref(), Some("t"));
    }

    #[test]
    fn what_is_missing_is_said_and_no_key_is_shown() {
        let missing = Path::new("/nonexistent/credentials");
        assert!(AwsProfile::read(missing, None).unwrap().is_none());
        assert!(AwsProfile::read(missing, Some("work")).is_err());
        assert!(read("[work]\n", None).unwrap().is_none());
        for (text, name) in [
            (TWO, Some("home")),
            ("[default]\nsso_session = hunter2\n", None),
            ("[default\nhunter2\n", None),
        ] {
            let fault = read(text, name).err().unwrap();
            assert!(!fault.contains("hunter2"), "{fault}");
        }
    }
}
