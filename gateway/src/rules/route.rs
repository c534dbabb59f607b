//! One route: an annotation whose every name has been looked up in the descriptors.

use http::Method;
use http::uri::PathAndQuery;
use prost_reflect::{FieldDescriptor, MessageDescriptor, MethodDescriptor};

use super::annotation::Annotation;
use super::template::Template;
use crate::json::{AnswerPlan, is_textual};

/// What a request's body fills.
#[derive(Debug)]
pub(crate) enum BodyRule {
    /// Nothing: the rest of the fields come from the query.
    None,
    /// Every field that the path does not.
    All,
    /// One field; the rest come from the query.
    Field(FieldDescriptor),
}

/// What of an rpc's answer is sent.
#[derive(Debug)]
pub(crate) enum AnswerRule {
    /// All of it.
    All(AnswerPlan),
    /// One field.
    Field(FieldDescriptor),
}

/// One method and path of one rpc.
#[derive(Debug)]
pub(crate) struct Route {
    /// The HTTP method.
    pub(crate) method: Method,
    /// The path.
    pub(crate) template: Template,
    /// The way to the field that each of the template's variables fills.
    pub(crate) variables: Vec<Vec<FieldDescriptor>>,
    /// What the body fills.
    pub(crate) body: BodyRule,
    /// What is sent of the answer.
    pub(crate) answer: AnswerRule,
    /// The rpc.
    pub(crate) rpc: MethodDescriptor,
    /// The rpc's path, `/package.Service/Method`.
    pub(crate) grpc_path: PathAndQuery,
    /// Its place among the rpc's annotations, from 0.
    pub(crate) binding: usize,
}

impl Route {
    /// Looks up every name of an annotation.
    pub(super) fn new(
        rpc: &MethodDescriptor,
        annotation: &Annotation,
        binding: usize,
    ) -> Result<Self, String> {
        let template = Template::parse(&annotation.path)?;
        let input = rpc.input();
        let variables = template
            .variables()
            .iter()
            .map(|variable| variable_fields(&input, &variable.field_path))
            .collect::<Result<Vec<_>, _>>()?;
        let body = match annotation.body.as_str() {
            "" => BodyRule::None,
            "*" => BodyRule::All,
            name => BodyRule::Field(field(&input, name, "body")?),
        };
        if !matches!(body, BodyRule::None)
            && (annotation.method == Method::GET || annotation.method == Method::HEAD)
        {
            return Err(format!("a {} has no body", annotation.method));
        }
        if let BodyRule::Field(body) = &body
            && variables.iter().any(|path| path.first() == Some(body))
        {
            let name = body.name();
            return Err(format!(
                "the field {name} is filled by the path and by the body"
            ));
        }
        let answer = match annotation.response_body.as_str() {
            "" => AnswerRule::All(AnswerPlan::new(&rpc.output())),
            name => AnswerRule::Field(field(&rpc.output(), name, "response_body")?),
        };
        let grpc_path = format!("/{}/{}", rpc.parent_service().full_name(), rpc.name());
        Ok(Self {
            method: annotation.method.clone(),
            template,
            variables,
            body,
            answer,
            rpc: rpc.clone(),
            grpc_path: grpc_path
                .parse()
                .map_err(|_| format!("{grpc_path:?} is not a path"))?,
            binding,
        })
    }
}

fn field(message: &MessageDescriptor, name: &str, what: &str) -> Result<FieldDescriptor, String> {
    message
        .get_field_by_name(name)
        .ok_or_else(|| format!("{what}: {} has no field {name}", message.full_name()))
}

/// The way to a variable's field: singular messages, and at the end something that one text can say.
fn variable_fields(
    input: &MessageDescriptor,
    names: &[String],
) -> Result<Vec<FieldDescriptor>, String> {
    let mut message = Some(input.clone());
    let mut fields = Vec::with_capacity(names.len());
    for name in names {
        let within =
            message.ok_or_else(|| format!("path: {} is not a message", names.join(".")))?;
        let field = field(&within, name, "path")?;
        if field.is_list() || field.is_map() {
            return Err(format!(
                "path: {} is repeated, which a path cannot fill",
                names.join(".")
            ));
        }
        message = field.kind().as_message().cloned();
        fields.push(field);
    }
    match fields.last() {
        Some(last) if is_textual(&last.kind()) => Ok(fields),
        _ => Err(format!(
            "path: {} is a message, which a path cannot fill",
            names.join(".")
        )),
    }
}
