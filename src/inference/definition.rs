//! What a person says of a model (`model.toml`): which feature feeds which input, and what to do without it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Fallback, Traffic,
    policy::{BoundInput, InvalidPolicy, MissingPolicy, ViolationKind},
};
use crate::{
    catalog::{FeatureRef, ValueType, parse_duration},
    error::{Error, Result as Outcome},
    features::{RawValue, Value},
};

/// What to do with an entity that no view has a row of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Every value of it is missing.
    #[default]
    Allow,
    /// The request is refused.
    Reject,
}

/// Where an input differs from the defaults.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputPolicy {
    /// The feature that feeds the input, where its name is not the input's.
    #[serde(default)]
    pub feature: Option<String>,
    /// How old a stored value may be, as "24h"; an older one is missing.
    #[serde(default)]
    pub max_age: Option<String>,
    /// What to do with a missing value.
    #[serde(default)]
    pub on_missing: MissingPolicy,
    /// What to do with a value outside what is allowed.
    #[serde(default)]
    pub on_invalid: InvalidPolicy,
    /// What stands in for a value.
    #[serde(default)]
    pub default: Option<toml::Value>,
    /// The least number allowed.
    #[serde(default)]
    pub min: Option<f64>,
    /// The greatest number allowed.
    #[serde(default)]
    pub max: Option<f64>,
    /// The texts allowed; none: all.
    #[serde(default)]
    pub categories: Vec<String>,
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
    /// Where the versions come from, as `mlflow:/credit_risk@champion`; none: from the model's folder.
    #[serde(default)]
    pub source: Option<String>,
    /// The version that answers where a request names none.
    #[serde(default)]
    pub default_version: Option<String>,
    /// The runtime that runs it, where that is not the one of its signature; that one is then the referee at load.
    #[serde(default)]
    pub runtime: Option<String>,
    /// What to do with an entity that no view has a row of.
    #[serde(default)]
    pub entity_not_found: Policy,
    /// The features, `view:feature`, that feed the inputs of the same name.
    #[serde(default)]
    pub features: Vec<String>,
    /// Alias to version.
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    /// How the requests that name no version are shared out, as long as nobody says otherwise at run time.
    #[serde(default)]
    pub traffic: Traffic,
    /// Who answers for rows that the model cannot score.
    #[serde(default)]
    pub fallback: Option<Fallback>,
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
    /// two features feed, a fallback that makes no sense, an alias that is a number and so could be taken for a version.
    pub fn parse(text: &str) -> Outcome<ModelDefinition> {
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
        if let Some(source) = &definition.source
            && let Err(fault) = check_source(source)
        {
            faults.push(format!("source: {fault}"));
        }
        if let Err(fault) = definition.traffic.check() {
            faults.push(fault.message().to_owned());
        }
        if let Some(fallback) = &definition.fallback
            && let Err(fault) = fallback.check(&definition.name)
        {
            faults.push(format!("fallback: {fault}"));
        }
        for alias in definition.aliases.keys() {
            if let Err(fault) = check_alias(alias) {
                faults.push(format!("aliases: {fault}"));
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

    /// An input with the feature that feeds it and what it may be.
    ///
    /// # Errors
    /// Sentences: no feature feeds it, a duration, default or range that makes no sense for its type.
    pub fn bind(&self, input: &str, value_type: ValueType) -> Result<BoundInput, Vec<String>> {
        let Some(feature) = self.feature_of(input) else {
            return Err(vec![format!(
                "input {input}: model.toml names no feature for it"
            )]);
        };
        let Some(policy) = self.inputs.get(input) else {
            return Ok(BoundInput::new(feature));
        };
        let mut faults = Vec::new();
        let max_age = policy.max_age.as_deref().map(parse_duration).transpose();
        let default = policy
            .default
            .as_ref()
            .map(|value| default_value(value, value_type));
        let bound = BoundInput {
            feature,
            max_age: max_age.unwrap_or_else(|fault| {
                faults.push(format!("max_age: {fault}"));
                None
            }),
            on_missing: policy.on_missing,
            on_invalid: policy.on_invalid,
            default: default.transpose().unwrap_or_else(|fault| {
                faults.push(format!("default: {fault}"));
                None
            }),
            min: policy.min,
            max: policy.max,
            categories: policy.categories.clone(),
        };
        check_policy(policy, value_type, &mut faults);
        match bound
            .default
            .as_ref()
            .and_then(|default| bound.fault(default))
        {
            Some(ViolationKind::UnknownCategory) => {
                faults.push("default: it is none of the categories".to_owned());
            }
            Some(_) => faults.push("default: it is outside min to max".to_owned()),
            None => {}
        }
        if faults.is_empty() {
            return Ok(bound);
        }
        let place = |fault| format!("model.toml: inputs.{input}: {fault}");
        Err(faults.into_iter().map(place).collect())
    }
}

/// Holds what a policy says against itself and against the input's type.
fn check_policy(policy: &InputPolicy, value_type: ValueType, faults: &mut Vec<String>) {
    let asks_for_default =
        policy.on_missing == MissingPolicy::Default || policy.on_invalid == InvalidPolicy::Default;
    if asks_for_default && policy.default.is_none() {
        faults.push("a policy asks for a default, and there is none".to_owned());
    }
    if policy.default.is_some() && !asks_for_default {
        faults.push("no policy asks for the default".to_owned());
    }
    let is_number = matches!(
        value_type,
        ValueType::Int32 | ValueType::Int64 | ValueType::Float | ValueType::Double
    );
    if (policy.min.is_some() || policy.max.is_some()) && !is_number {
        faults.push(format!(
            "min and max are for numbers, and it is a {value_type}"
        ));
    }
    let bounds = policy.min.unwrap_or(f64::NEG_INFINITY)..=policy.max.unwrap_or(f64::INFINITY);
    // A NaN bound makes an empty range, too.
    if bounds.is_empty() {
        faults.push("no number is from min to max".to_owned());
    }
    if !policy.categories.is_empty() && value_type != ValueType::String {
        faults.push(format!(
            "categories are for strings, and it is a {value_type}"
        ));
    }
    let has_bounds = policy.min.is_some() || policy.max.is_some() || !policy.categories.is_empty();
    if policy.on_invalid != InvalidPolicy::Allow && !has_bounds {
        faults.push("on_invalid needs min, max or categories".to_owned());
    }
}

/// A default as a value of the input's type.
fn default_value(value: &toml::Value, value_type: ValueType) -> Result<Value, String> {
    let json = serde_json::to_value(value).map_err(|fault| fault.to_string())?;
    RawValue::from_json(json).to_value(value_type)
}

/// Refuses what could be taken for a version, or is no name that a URL could carry.
///
/// # Errors
/// A sentence that says what is wrong.
pub(super) fn check_alias(alias: &str) -> Result<(), String> {
    const CHARS_MAX: usize = 60;
    if alias.is_empty() || alias.chars().all(|c| c.is_ascii_digit()) {
        return Err(format!("\"{alias}\" could be taken for a version"));
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if alias.len() > CHARS_MAX || !alias.chars().all(is_plain) {
        return Err(format!(
            "\"{}\" is not made of up to {CHARS_MAX} letters, digits, _, - and .",
            alias.chars().take(CHARS_MAX).collect::<String>()
        ));
    }
    Ok(())
}

/// Refuses what is no location. What kind it is of, only those who open it know.
fn check_source(source: &str) -> Result<(), String> {
    const CHARS_MAX: usize = 1_000;
    let Some((scheme, rest)) = source
        .split_once(":/")
        .filter(|_| source.len() <= CHARS_MAX)
    else {
        return Err("expected a location, as s3://bucket/models/credit_risk".to_owned());
    };
    let authority = rest.trim_start_matches('/').split('/').next();
    // It is shown by GetModel, and stands in logs.
    if scheme.starts_with("http") && authority.is_some_and(|text| text.contains('@')) {
        return Err("a location has no user and no password".to_owned());
    }
    Ok(())
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
        let bound = |input| definition.bind(input, ValueType::Double).unwrap();
        assert_eq!(bound("term").on_missing, MissingPolicy::Reject);
        assert_eq!(bound("annual_inc").on_missing, MissingPolicy::Allow);
        assert!(definition.bind("sub_grade", ValueType::Double).is_err());
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

    #[test]
    fn a_source_is_a_location_without_a_password() {
        let parse = |source: &str| {
            let text = format!("name = \"m\"\nsource = \"{source}\"");
            ModelDefinition::parse(&text)
        };
        for good in [
            "mlflow:/m@champion",
            "s3://bucket/m",
            "abfs://container@account/m",
        ] {
            assert_eq!(parse(good).unwrap().source.as_deref(), Some(good));
        }
        for bad in ["", "models/m", "https://u:hunter2@host/m"] {
            let error = parse(bad).unwrap_err();
            assert!(error.message().contains("source: "), "{error}");
            assert!(!error.message().contains("hunter2"), "{error}");
        }
    }
}
