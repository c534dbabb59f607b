//! The routes: read from the `google.api.http` annotations, checked against the descriptors, matched against requests.

mod annotation;
mod route;
mod table;
mod template;

pub(crate) use route::{AnswerRule, BodyRule, Route};
pub(crate) use table::{Found, RouteTable};
pub(crate) use template::{Template, Wildcard, decode};
