//! Old URLs: an alias leads a method and path to an rpc's route.

use std::str::FromStr;

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::error::GatewayError;
use crate::rules::{Found, RouteTable, Template, decode};

/// Leads an old URL to an rpc's route.
///
/// The path's variables, as `{user_id}`, can stand in the target path, and in the body as a string of their own:
/// `GET /predict/sync/{user_id}` → `POST /v1/models/next:predictByEntity` with
/// `{"entities":[{"user_id":"{user_id}"}]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// The old HTTP method.
    pub method: String,
    /// The old path, a template as in `google.api.http`.
    pub path: String,
    /// The method of the rpc's route.
    pub target_method: String,
    /// The path of the rpc's route, with this path's variables where it likes.
    pub target_path: String,
    /// The body to send instead of the caller's; without it the caller's goes on as it is.
    #[serde(default)]
    pub body: Option<Json>,
}

/// Tells that a text is not an alias.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not \"METHOD /path -> METHOD /path\", or that with \" -> {{…}}\" and a JSON body after it"
)]
pub struct AliasParseError(String);

impl FromStr for Alias {
    type Err = AliasParseError;

    /// Reads `POST /predict -> POST /v1/models/next:predict`, and a third part as the body.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = || AliasParseError(text.to_owned());
        let mut parts = text.splitn(3, "->");
        let mut endpoint = || {
            let (method, path) = parts.next()?.trim().split_once(' ')?;
            Some((method.to_owned(), path.trim().to_owned()))
        };
        let (method, path) = endpoint().ok_or_else(fault)?;
        let (target_method, target_path) = endpoint().ok_or_else(fault)?;
        let body = parts
            .next()
            .map(|json| serde_json::from_str(json.trim()))
            .transpose();
        Ok(Self {
            method,
            path,
            target_method,
            target_path,
            body: body.map_err(|_| fault())?,
        })
    }
}

/// The aliases of a gateway, checked.
#[derive(Debug)]
pub(crate) struct AliasTable {
    aliases: Vec<Checked>,
}

#[derive(Debug)]
struct Checked {
    method: Method,
    template: Template,
    target_method: Method,
    target_path: String,
    body: Option<Json>,
}

/// Where an alias leads one request.
pub(crate) struct Target {
    /// The method of the rpc's route.
    pub(crate) method: Method,
    /// The path, percent-encoded.
    pub(crate) path: String,
    /// The body to send instead of the caller's.
    pub(crate) body: Option<Vec<u8>>,
    /// The alias's own path, for the log.
    pub(crate) label: String,
}

impl AliasTable {
    /// Checks that every alias is sound and leads to a route.
    ///
    /// # Errors
    /// The first alias at fault.
    pub(crate) fn build(aliases: &[Alias], routes: &RouteTable) -> Result<Self, GatewayError> {
        let mut table = Self {
            aliases: Vec::new(),
        };
        for alias in aliases {
            let checked = check(alias, routes).and_then(|checked| {
                let is_taken = table.aliases.iter().any(|other| {
                    other.method == checked.method && other.template.same_shape(&checked.template)
                });
                if is_taken {
                    Err("there is another of this method and path".to_owned())
                } else {
                    Ok(checked)
                }
            });
            table
                .aliases
                .push(checked.map_err(|reason| GatewayError::Alias {
                    alias: format!("{} {}", alias.method, alias.path),
                    reason,
                })?);
        }
        table
            .aliases
            .sort_by(|a, b| a.template.precedence(&b.template));
        Ok(table)
    }

    /// Where a request that has no route of its own leads.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<Target> {
        let matching = self.aliases.iter().filter(|alias| alias.method == *method);
        let (alias, captured) = matching
            .filter_map(|alias| Some((alias, alias.template.match_raw(path)?)))
            .next()?;
        let mut target_path = alias.target_path.clone();
        let mut body = alias.body.clone();
        for (variable, raw) in alias.template.variables().iter().zip(&captured) {
            let hole = format!("{{{}}}", variable.field_path.join("."));
            target_path = target_path.replace(&hole, &raw.join("/"));
            if let Some(body) = &mut body {
                fill(body, &hole, &decode(raw).unwrap_or_default());
            }
        }
        Some(Target {
            method: alias.target_method.clone(),
            path: target_path,
            body: body.map(|body| body.to_string().into_bytes()),
            label: alias.template.text().to_owned(),
        })
    }

    /// The methods of the aliases at a path.
    pub(crate) fn methods_at(&self, path: &str) -> Vec<String> {
        let here = self
            .aliases
            .iter()
            .filter(|alias| alias.template.match_raw(path).is_some());
        here.map(|alias| alias.method.to_string()).collect()
    }
}

fn check(alias: &Alias, routes: &RouteTable) -> Result<Checked, String> {
    let method = |text: &str| {
        Method::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is not an HTTP method"))
    };
    let template = Template::parse(&alias.path)?;
    let checked = Checked {
        method: method(&alias.method)?,
        target_method: method(&alias.target_method)?,
        target_path: alias.target_path.clone(),
        body: alias.body.clone(),
        template,
    };
    // Filled in with a stand-in, the target must be a route.
    let mut example = alias.target_path.clone();
    for variable in checked.template.variables() {
        example = example.replace(&format!("{{{}}}", variable.field_path.join(".")), "x");
    }
    if example.contains(['{', '}']) {
        return Err(format!(
            "the target {} has a variable that the path has not",
            alias.target_path
        ));
    }
    match routes.find(&checked.target_method, &example) {
        Found::Route(..) => Ok(checked),
        Found::OtherMethods(_) | Found::Nothing => Err(format!(
            "no rpc has the route {} {}",
            alias.target_method, alias.target_path
        )),
    }
}

/// Replaces every string that is the hole by the text.
fn fill(json: &mut Json, hole: &str, text: &str) {
    match json {
        Json::String(string) if string == hole => text.clone_into(string),
        Json::Array(items) => items.iter_mut().for_each(|item| fill(item, hole, text)),
        Json::Object(fields) => fields
            .values_mut()
            .for_each(|value| fill(value, hole, text)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn aliases_are_read_from_text() {
        let alias: Alias = "GET /p/{id} -> POST /v1/x:go -> {\"a\":\"{id}\"}"
            .parse()
            .unwrap();
        assert_eq!(alias.method, "GET");
        assert_eq!(alias.target_path, "/v1/x:go");
        assert_eq!(alias.body, Some(serde_json::json!({"a": "{id}"})));
        for text in ["", "GET /a", "GET -> GET", "GET /a -> POST /b -> {"] {
            assert!(text.parse::<Alias>().is_err(), "{text}");
        }
    }
}
