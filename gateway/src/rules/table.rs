//! All routes, in the order in which they are tried.

use std::sync::Arc;

use http::Method;
use prost_reflect::DescriptorPool;

use super::annotation::{annotations, http_extension};
use super::route::Route;
use crate::error::GatewayError;

/// The routes of a server.
#[derive(Debug)]
pub(crate) struct RouteTable {
    routes: Vec<Arc<Route>>,
}

/// What stands at a method and path.
pub(crate) enum Found<'t, 'p> {
    /// A route, and the raw text of its variables.
    Route(&'t Arc<Route>, Vec<Vec<&'p str>>),
    /// The path exists with these methods, as the Allow header writes them.
    OtherMethods(String),
    /// Nothing.
    Nothing,
}

impl RouteTable {
    /// Reads every rpc's annotations.
    ///
    /// # Errors
    /// The first fault of an annotation, with the rpc's name, or no annotation at all.
    pub(crate) fn build(pool: &DescriptorPool) -> Result<Self, GatewayError> {
        let mut routes: Vec<Arc<Route>> = Vec::new();
        if let Some(extension) = http_extension(pool) {
            for rpc in pool
                .services()
                .flat_map(|service| service.methods().collect::<Vec<_>>())
            {
                let fault = |reason| GatewayError::Rule {
                    rpc: rpc.full_name().to_owned(),
                    reason,
                };
                for (binding, annotation) in annotations(&extension, &rpc)
                    .map_err(fault)?
                    .iter()
                    .enumerate()
                {
                    if rpc.is_client_streaming() {
                        return Err(fault(
                            "a client stream cannot be an HTTP route; take the option away"
                                .to_owned(),
                        ));
                    }
                    insert(
                        &mut routes,
                        Route::new(&rpc, annotation, binding).map_err(fault)?,
                    )?;
                }
            }
        }
        if routes.is_empty() {
            return Err(GatewayError::NoRules {
                services: pool.services().len(),
            });
        }
        routes.sort_by(|a, b| a.template.precedence(&b.template));
        Ok(Self { routes })
    }

    /// Finds the route of a request by its raw (still percent-encoded) path. HEAD is answered as GET.
    pub(crate) fn find<'t, 'p>(&'t self, method: &Method, path: &'p str) -> Found<'t, 'p> {
        let method = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let mut allow: Vec<&str> = Vec::new();
        for route in &self.routes {
            let Some(captured) = route.template.match_raw(path) else {
                continue;
            };
            if route.method == *method {
                return Found::Route(route, captured);
            }
            // POST /v1/models/x:typo is no other method of GET /v1/models/{model}.
            if !route.template.swallows_verb(path) && !allow.contains(&route.method.as_str()) {
                allow.push(route.method.as_str());
            }
        }
        if allow.is_empty() {
            return Found::Nothing;
        }
        allow.sort_unstable();
        Found::OtherMethods(allow.join(", "))
    }

    /// Every route.
    pub(crate) fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// Whether an rpc has this very path for GET, so that a page of the gateway's own must give way.
    pub(crate) fn has_page(&self, path: &str) -> bool {
        self.routes.iter().any(|route| {
            route.method == Method::GET
                && route.template.is_literal()
                && route.template.text() == path
        })
    }
}

fn insert(routes: &mut Vec<Arc<Route>>, route: Route) -> Result<(), GatewayError> {
    let taken = routes
        .iter()
        .find(|other| other.method == route.method && other.template.same_shape(&route.template));
    if let Some(other) = taken {
        return Err(GatewayError::DuplicateRoute {
            rpc: route.rpc.full_name().to_owned(),
            method: route.method.to_string(),
            path: route.template.text().to_owned(),
            other: other.rpc.full_name().to_owned(),
        });
    }
    routes.push(Arc::new(route));
    Ok(())
}
