//! What can be wrong with a gateway before it serves: descriptors, annotations, configuration.

/// Tells why a gateway cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The descriptor set cannot be read.
    #[error("the descriptor set cannot be read: {0}")]
    Descriptors(String),
    /// No rpc has an HTTP rule.
    #[error(
        "no rpc of the {services} service(s) has a google.api.http rule; if the .proto files have them, the server's \
         reflection drops options that it does not know: give the gateway a descriptor set instead"
    )]
    NoRules {
        /// How many services the descriptors have.
        services: usize,
    },
    /// An rpc's HTTP rule is at fault.
    #[error("{rpc}: {reason}")]
    Rule {
        /// The rpc's full name.
        rpc: String,
        /// What is wrong.
        reason: String,
    },
    /// Two rules have the same method and the same path.
    #[error("{rpc}: {method} {path} is already the route of {other}")]
    DuplicateRoute {
        /// The rpc whose rule came second.
        rpc: String,
        /// The HTTP method.
        method: String,
        /// The path template.
        path: String,
        /// The rpc that has the route.
        other: String,
    },
    /// An alias is at fault.
    #[error("alias {alias}: {reason}")]
    Alias {
        /// The alias, as "METHOD /path".
        alias: String,
        /// What is wrong.
        reason: String,
    },
    /// A message cannot be written as JSON.
    #[error("a {message} cannot be written as JSON: {reason}")]
    Message {
        /// The message's full name.
        message: String,
        /// What is wrong.
        reason: String,
    },
    /// A configuration value is at fault.
    #[error("{name}: {reason}")]
    Config {
        /// The field of [`crate::GatewayConfig`].
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
}
