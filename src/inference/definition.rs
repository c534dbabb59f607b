//! What a person says of a model (`model.toml`): which feature feeds which input, and what to do without it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    catalog::FeatureRef,
    error::{Error, Result},
};

/// What to do where something is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Go on with missing values.
    #[default]
    Allow,
    /// Answer with an error.
    Reject,
}

/// Where an input differs from the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputPolicy {
    /// The feature that feeds the input, where its name is not the input's.
    #[serde(default)]
    pub feature: Option<String>,
    /// What to do with a missing value.
    #[serde(default)]
    pub on_missing: Policy,
}

/// A `model.toml`, valid in itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelDefinition {
    /// The model's name, that of its folder.
    pub name: String,
    /// What it predicts, for people.
    #[serde(default)]
    pub description: String,
    /// The version that answers where a request names none.
    #[serde(default)]
    pub default_version: Option<String>,
    /// What to do with an entity that no view has a row of.
    #[serde(default)]
    pub entity_not_found: Policy,
    /// The features, `view:feature`, that feed the inputs of the same name.
    #[serde(default)]
    pub features: Vec<String>,
    /// Alias to version.
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    /// An entity to try the model with, join key to value: shown to people, never read otherwise.
    #[serde(default)]
    pub example: BTreeMap<String, toml::Value>,
    /// By input name.
    #[serde(default)]
    pub inputs: BTreeMap<String, InputPolicy>,
}

impl ModelDefinition {
    /// Reads and checks the text of a `model.toml`.
    ///
    /// # Errors
    /// `FailedPrecondition` with every fault: TOML that does not parse, features that are not `view:feature`, an input that
    /// two features feed, an alias that is a number and so could be taken for a version.
    pub fn parse(text: &str) -> Result<ModelDefinition> {
        let definition: ModelDefinition = toml::from_str(text)
            .map_err(|fault| Error::failed_precondition(fault.to_string().trim().to_owned()))?;
        let mut faults = Vec::new();
        let mut fed: BTreeMap<String, &String> = BTreeMap::new();
        for full_name in &definition.features {
            let Some(reference) = FeatureRef::parse(full_name) else {
                faults.push(not_a_feature("features", full_name));
                continue;
            };
            if let Some(other) = fed.insert(reference.feature, full_name) {
                faults.push(format!(
                    "features: {other} and {full_name} feed the same input; name one under [inputs.<input>] feature"
                ));
            }
        }
        for (input, policy) in &definition.inputs {
            if let Some(full_name) = &policy.feature
                && FeatureRef::parse(full_name).is_none()
            {
                faults.push(not_a_feature(&format!("inputs.{input}.feature"), full_name));
            }
        }
        for alias in definition.aliases.keys() {
            if alias.is_empty() || alias.chars().all(|c| c.is_ascii_digit()) {
                faults.push(format!("aliases: \"{alias}\" could be taken for a version"));
            }
        }
        if faults.is_empty() {
            Ok(definition)
        } else {
            Err(Error::failed_precondition(faults.join("; ")))
        }
    }

    /// The feature that feeds an input; none where the definition names none.
    pub fn feature_of(&self, input: &str) -> Option<FeatureRef> {
        if let Some(full_name) = self.inputs.get(input).and_then(|p| p.feature.as_ref()) {
            return FeatureRef::parse(full_name);
        }
        self.features
            .iter()
            .filter_map(|full_name| FeatureRef::parse(full_name))
            .find(|reference| reference.feature == input)
    }

    /// What to do with a missing value of an input.
    pub fn on_missing(&self, input: &str) -> Policy {
        self.inputs
            .get(input)
            .map(|policy| policy.on_missing)
            .unwrap_or_default()
    }
}

fn not_a_feature(place: &str, full_name: &str) -> String {
    format!("{place}: \"{full_name}\" is not of the form view:feature")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn inputs_find_their_feature_by_name_or_by_mapping() {
        let definition = ModelDefinition::parse(
            r#"
            name = "credit_risk"
            features = ["applicant:annual_inc"]
            [inputs.term]
            feature = "loan_terms:months"
            on_missing = "reject"
            "#,
        )
        .unwrap();
        let name = |input| definition.feature_of(input).map(|f| f.to_string());
        assert_eq!(name("annual_inc").as_deref(), Some("applicant:annual_inc"));
        assert_eq!(name("term").as_deref(), Some("loan_terms:months"));
        assert_eq!(name("sub_grade"), None);
        assert_eq!(definition.on_missing("term"), Policy::Reject);
        assert_eq!(definition.on_missing("annual_inc"), Policy::Allow);
    }

    #[test]
    fn faults_are_named() {
        let error = ModelDefinition::parse(
            r#"
            name = "m"
            features = ["annual_inc", "a:x", "b:x"]
            [aliases]
            7 = "1"
            "#,
        )
        .unwrap_err();
        for part in ["\"annual_inc\" is not", "a:x and b:x", "\"7\" could be"] {
            assert!(error.message().contains(part), "{part} in {error}");
        }
        assert!(ModelDefinition::parse("nam = \"m\"").is_err());
    }
}
