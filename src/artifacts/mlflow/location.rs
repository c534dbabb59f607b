//! What model.toml says of a registered model.

use crate::{
    error::{Error, Result},
    inference::version_number,
};

const SCHEME: &str = "mlflow:";

/// Which versions of a registered model are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pick {
    /// Those of its aliases.
    Aliases,
    /// Those of its aliases, of which one answers.
    Alias(String),
    /// One.
    Version(u64),
}

/// A registered model, `mlflow:/name`, `mlflow:/name@alias` or `mlflow:/name/3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::artifacts) struct MlflowLocation {
    pub(super) name: String,
    pub(super) pick: Pick,
}

impl MlflowLocation {
    /// Reads a location; none where it is not one of MLflow.
    ///
    /// # Errors
    /// `FailedPrecondition` where it names no model.
    pub(in crate::artifacts) fn parse(location: &str) -> Result<Option<MlflowLocation>> {
        let Some(rest) = location.strip_prefix(SCHEME) else {
            return Ok(None);
        };
        let unusable = || {
            Error::failed_precondition(format!(
                "{location}: expected mlflow:/name@alias, mlflow:/name/version or mlflow:/name"
            ))
        };
        let path = rest.strip_prefix('/').ok_or_else(unusable)?;
        let (name, pick) = match (path.split_once('@'), path.split_once('/')) {
            (Some((name, alias)), None) if !alias.is_empty() => {
                (name, Pick::Alias(alias.to_owned()))
            }
            (None, Some((name, number))) => (
                name,
                Pick::Version(version_number(number).ok_or_else(unusable)?),
            ),
            (None, None) => (path, Pick::Aliases),
            (Some(_), _) => return Err(unusable()),
        };
        if name.trim().is_empty() {
            return Err(unusable());
        }
        Ok(Some(MlflowLocation {
            name: name.to_owned(),
            pick,
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn locations_name_a_model_and_which_versions_are_meant() {
        let parse = |text: &str| MlflowLocation::parse(text).unwrap();
        let located = |name: &str, pick| {
            let name = name.to_owned();
            Some(MlflowLocation { name, pick })
        };
        assert_eq!(
            parse("mlflow:/m@champion"),
            located("m", Pick::Alias("champion".to_owned()))
        );
        assert_eq!(parse("mlflow:/m/3"), located("m", Pick::Version(3)));
        assert_eq!(parse("mlflow:/m"), located("m", Pick::Aliases));
        assert_eq!(parse("s3://bucket/m"), None);
        for bad in [
            "mlflow:m",
            "mlflow:/",
            "mlflow:/m@",
            "mlflow:/m/",
            "mlflow:/m/03",
            "mlflow:/m/a",
            "mlflow:/m@a/3",
            "mlflow:/ @a",
            "mlflow://m",
        ] {
            assert!(MlflowLocation::parse(bad).is_err(), "{bad}");
        }
    }
}
