//! Path templates: `/v1/models/{model}/versions/{version=*}:predict`. Parsing, matching, and which of two goes first.

use std::cmp::Ordering;

use percent_encoding::percent_decode_str;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Segment {
    /// This text and no other; it goes before the others.
    Literal(String),
    /// `*`: any one segment that is not empty.
    Any,
    /// `**`: all that is left, nothing among it.
    Rest,
}

/// A part of the path that fills a field.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    /// The field, or the way to it: `a.b` is two names.
    pub(crate) field_path: Vec<String>,
    /// The first segment.
    start: usize,
    /// How many segments; a `**` among them takes all that is left.
    len: usize,
}

/// A wildcard of a template, as an OpenAPI parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wildcard {
    /// The parameter's name.
    pub(crate) name: String,
    /// Which of the template's variables it is in.
    pub(crate) variable: Option<usize>,
    /// Whether it is all of that variable.
    pub(crate) is_whole: bool,
}

/// A parsed path template.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    text: String,
    segments: Vec<Segment>,
    verb: Option<String>,
    variables: Vec<Variable>,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix('/')
            .ok_or_else(|| format!("the path {text:?} does not begin with /"))?;
        let (rest, verb) = match rest.rsplit_once(':') {
            Some((path, verb)) if !verb.contains(['/', '}']) => (path, Some(verb.to_owned())),
            _ => (rest, None),
        };
        if verb.as_deref() == Some("") {
            return Err(format!("the path {text:?} ends with a colon"));
        }
        let mut template = Self {
            text: text.to_owned(),
            segments: Vec::new(),
            verb,
            variables: Vec::new(),
        };
        if !rest.is_empty() {
            for part in split_outside_braces(rest) {
                template.push(&part)?;
            }
        }
        let last = template.segments.len().saturating_sub(1);
        if template
            .segments
            .iter()
            .take(last)
            .any(|segment| *segment == Segment::Rest)
        {
            return Err(format!("the path {text:?} has ** before its end"));
        }
        Ok(template)
    }

    fn push(&mut self, part: &str) -> Result<(), String> {
        let Some(inner) = part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'))
        else {
            self.segments.push(segment(part, &self.text)?);
            return Ok(());
        };
        let (name, pattern) = inner.split_once('=').unwrap_or((inner, "*"));
        let field_path: Vec<String> = name.split('.').map(str::to_owned).collect();
        let sound = |name: &String| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if !field_path.iter().all(sound) {
            return Err(format!(
                "the path {:?} has a variable without a field name",
                self.text
            ));
        }
        if self
            .variables
            .iter()
            .any(|variable| variable.field_path == field_path)
        {
            return Err(format!(
                "the path {:?} has the variable {name} twice",
                self.text
            ));
        }
        let start = self.segments.len();
        for step in pattern.split('/') {
            self.segments.push(segment(step, &self.text)?);
        }
        let len = self.segments.len() - start;
        self.variables.push(Variable {
            field_path,
            start,
            len,
        });
        Ok(())
    }

    /// The template as written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The variables, in the order of the path.
    pub(crate) fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// The path as OpenAPI writes it, which knows no patterns: literals stay, and every wildcard is a parameter of its
    /// own. `/v1/{name=shelves/*}` becomes `/v1/shelves/{name}`.
    pub(crate) fn openapi_path(&self) -> (String, Vec<Wildcard>) {
        let mut path = String::new();
        let mut wildcards: Vec<Wildcard> = Vec::new();
        for (index, segment) in self.segments.iter().enumerate() {
            path.push('/');
            if let Segment::Literal(text) = segment {
                path.push_str(text);
                continue;
            }
            let is_inside = |variable: &Variable| {
                (variable.start..variable.start + variable.len).contains(&index)
            };
            let variable = self.variables.iter().position(is_inside);
            let owner = variable.and_then(|variable| self.variables.get(variable));
            let name =
                owner.map_or_else(|| "segment".to_owned(), |owner| owner.field_path.join("."));
            let before = wildcards
                .iter()
                .filter(|wildcard| wildcard.variable == variable)
                .count();
            let name = if before == 0 {
                name
            } else {
                format!("{name}_{}", before + 1)
            };
            path.push_str(&format!("{{{name}}}"));
            let is_whole = owner.is_some_and(|owner| owner.len == 1);
            wildcards.push(Wildcard {
                name,
                variable,
                is_whole,
            });
        }
        if path.is_empty() {
            path.push('/');
        }
        if let Some(verb) = &self.verb {
            path.push(':');
            path.push_str(verb);
        }
        (path, wildcards)
    }

    /// Whether the template is this fixed path.
    pub(crate) fn is_literal(&self) -> bool {
        self.segments
            .iter()
            .all(|segment| matches!(segment, Segment::Literal(_)))
    }

    /// Whether two templates take exactly the same paths.
    pub(crate) fn same_shape(&self, other: &Self) -> bool {
        self.segments == other.segments && self.verb == other.verb
    }

    /// Which goes first where both match: the one with a verb, then the one whose literal comes first.
    pub(crate) fn precedence(&self, other: &Self) -> Ordering {
        (self.verb.is_none(), &self.segments, &self.verb).cmp(&(
            other.verb.is_none(),
            &other.segments,
            &other.verb,
        ))
    }

    /// Whether the last segment's match takes in a colon: `/v1/models/a:b` by `/v1/models/{model}`.
    pub(crate) fn swallows_verb(&self, path: &str) -> bool {
        let last = path.rsplit('/').next().unwrap_or(path);
        self.verb.is_none() && last.contains(':')
    }

    /// Matches a raw (still percent-encoded) path; gives the raw text of every variable, in order.
    pub(crate) fn match_raw<'p>(&self, path: &'p str) -> Option<Vec<Vec<&'p str>>> {
        let path = path.strip_prefix('/')?;
        let path = match &self.verb {
            Some(verb) => path.strip_suffix(verb.as_str())?.strip_suffix(':')?,
            None => path,
        };
        let steps: Vec<&str> = match path {
            "" => Vec::new(),
            path => path.split('/').collect(),
        };
        let mut index = 0;
        for segment in &self.segments {
            match segment {
                Segment::Literal(text)
                    if *text == percent_decode_str(steps.get(index)?).decode_utf8().ok()? => {}
                Segment::Literal(_) => return None,
                Segment::Any if steps.get(index)?.is_empty() => return None,
                Segment::Any => {}
                Segment::Rest => {
                    index = steps.len();
                    break;
                }
            }
            index += 1;
        }
        if index != steps.len() {
            return None;
        }
        let captured = self.variables.iter().map(|variable| {
            let end = match self.segments.get(variable.start + variable.len - 1) {
                Some(Segment::Rest) => steps.len(),
                _ => variable.start + variable.len,
            };
            steps.get(variable.start..end).unwrap_or_default().to_vec()
        });
        Some(captured.collect())
    }
}

/// Decodes a captured variable. Over several segments an encoded slash stays encoded, or it could not be told from a
/// separator.
///
/// # Errors
/// The text is not UTF-8 once it is decoded.
pub(crate) fn decode(captured: &[&str]) -> Result<String, ()> {
    if let [one] = captured {
        return percent_decode_str(one)
            .decode_utf8()
            .map(String::from)
            .map_err(|_| ());
    }
    let mut whole = Vec::with_capacity(captured.len());
    for step in captured {
        let pieces = step.replace("%2f", "%2F");
        let decoded: Result<Vec<String>, ()> = pieces
            .split("%2F")
            .map(|piece| {
                percent_decode_str(piece)
                    .decode_utf8()
                    .map(String::from)
                    .map_err(|_| ())
            })
            .collect();
        whole.push(decoded?.join("%2F"));
    }
    Ok(whole.join("/"))
}

fn segment(text: &str, template: &str) -> Result<Segment, String> {
    match text {
        "*" => Ok(Segment::Any),
        "**" => Ok(Segment::Rest),
        "" => Err(format!("the path {template:?} has an empty segment")),
        text if text.contains(['{', '}', '*', '=']) => Err(format!(
            "the path {template:?} has {text:?}, which is neither text, *, ** nor {{field}}"
        )),
        text => Ok(Segment::Literal(text.to_owned())),
    }
}

fn split_outside_braces(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut inside = false;
    for c in text.chars() {
        match c {
            '{' => inside = true,
            '}' => inside = false,
            _ => {}
        }
        if c == '/' && !inside {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn captures(template: &str, path: &str) -> Option<Vec<String>> {
        let captured = Template::parse(template).unwrap().match_raw(path)?;
        Some(
            captured
                .iter()
                .map(|value| decode(value).unwrap())
                .collect(),
        )
    }

    #[test]
    fn templates_match_what_they_say() {
        let some =
            |values: &[&str]| Some(values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>());
        assert_eq!(captures("/v1/models", "/v1/models"), some(&[]));
        assert_eq!(captures("/v1/models", "/v1/models/"), None);
        assert_eq!(
            captures("/v1/models/{m}", "/v1/models/a%20b"),
            some(&["a b"])
        );
        assert_eq!(
            captures("/v1/models/{m}", "/v1/models/a%2Fb"),
            some(&["a/b"])
        );
        assert_eq!(captures("/v1/models/{m}", "/v1/models/"), None);
        assert_eq!(
            captures("/v1/models/{m}:go", "/v1/models/x:go"),
            some(&["x"])
        );
        assert_eq!(captures("/v1/models/{m}:go", "/v1/models/x:no"), None);
        assert_eq!(captures("/v1/models/{m}:go", "/v1/models/:go"), None);
        assert_eq!(captures("/v1/features:get", "/v1/features:get"), some(&[]));
        assert_eq!(
            captures("/v1/{n=shelves/*/books/*}", "/v1/shelves/1/books/2"),
            some(&["shelves/1/books/2"])
        );
        assert_eq!(
            captures("/v1/{n=shelves/**}", "/v1/shelves/1/x%2fy"),
            some(&["shelves/1/x%2Fy"])
        );
        assert_eq!(captures("/v1/{a.b}/{c}", "/v1/1/2"), some(&["1", "2"]));
        assert_eq!(captures("/**", "/a//b"), some(&[]));
        assert_eq!(captures("/", "/"), some(&[]));
        assert_eq!(captures("/v1/{m}", "/v1/\u{fc}"), some(&["ü"]));
    }

    #[test]
    fn faulty_templates_are_refused() {
        for text in [
            "",
            "v1",
            "/v1//x",
            "/{",
            "/{}",
            "/{a",
            "/a}",
            "/{a}/{a}",
            "/**/x",
            "/{a=**}/x",
            "/x:",
            "/{a..b}",
            "/a*b",
            "/{a=}",
            "/{a={b}}",
            "/{a b}",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn literals_go_before_variables_and_verbs_first() {
        let mut templates: Vec<_> = [
            "/**",
            "/v1/{a}",
            "/v1/*:go",
            "/v1/x",
            "/v1/{a=**}",
            "/v1/{a}/b",
        ]
        .map(|text| Template::parse(text).unwrap())
        .into();
        templates.sort_by(Template::precedence);
        let order: Vec<_> = templates.iter().map(Template::text).collect();
        assert_eq!(
            order,
            [
                "/v1/*:go",
                "/v1/x",
                "/v1/{a}",
                "/v1/{a}/b",
                "/v1/{a=**}",
                "/**"
            ]
        );
    }

    #[test]
    fn openapi_paths_keep_only_names() {
        let path = |text| Template::parse(text).unwrap().openapi_path().0;
        assert_eq!(path("/v1/{name=shelves/*}/x:go"), "/v1/shelves/{name}/x:go");
        assert_eq!(path("/v1/{name=a/*/b/*}"), "/v1/a/{name}/b/{name_2}");
        assert_eq!(path("/v1/{a.b}/*"), "/v1/{a.b}/{segment}");
        assert_eq!(path("/"), "/");
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert!(decode(&["%ff"]).is_err());
        assert!(decode(&["a", "%ff"]).is_err());
    }
}
