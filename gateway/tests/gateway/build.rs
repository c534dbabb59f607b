//! Faulty annotations, aliases and configurations are refused when the gateway is built, and named.

use ferrocast_gateway::{Backend, Gateway, GatewayConfig};

use crate::shop::{Reflection, Shop, pool};

/// The shop's descriptors with another annotation text in a file of its own.
fn build(rpcs: &str) -> Result<Gateway, String> {
    let dir = std::env::temp_dir().join(format!(
        "gateway-build-{}-{}",
        std::process::id(),
        fxhash(rpcs)
    ));
    std::fs::create_dir_all(&dir).unwrap();
    let text = format!(
        "syntax = \"proto3\"; package t; import \"google/api/annotations.proto\";
         message M {{ string a = 1; repeated string list = 2; M inner = 3; map<string, string> map = 4; }}
         service S {{ {rpcs} }}"
    );
    std::fs::write(dir.join("t.proto"), text).unwrap();
    let protos = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
    let mut compiler =
        protox::Compiler::new([dir.as_path(), std::path::Path::new(protos)]).unwrap();
    compiler.include_imports(true).open_file("t.proto").unwrap();
    let set = compiler.encode_file_descriptor_set();
    std::fs::remove_dir_all(&dir).unwrap();
    let backend = Backend::in_process(Shop::new(Reflection::None).routes);
    Gateway::from_descriptor_set(GatewayConfig::default(), &set, backend)
        .map_err(|error| error.to_string())
}

fn fxhash(text: &str) -> u64 {
    text.bytes()
        .fold(5381, |hash, byte| hash.wrapping_mul(33) ^ u64::from(byte))
}

fn rpc(rule: &str) -> String {
    format!("rpc R(M) returns (M) {{ option (google.api.http) = {{ {rule} }}; }}")
}

#[test]
fn faulty_annotations_are_refused_and_the_rpc_is_named() {
    for (rule, part) in [
        ("get: \"/v1/{nope}\"", "no field nope"),
        ("get: \"/v1/{a.b}\"", "not a message"),
        ("get: \"/v1/{list}\"", "repeated"),
        ("get: \"/v1/{map}\"", "repeated"),
        ("get: \"/v1/{inner}\"", "is a message"),
        ("get: \"/v1/{inner.nope}\"", "no field nope"),
        ("get: \"v1\"", "does not begin with /"),
        ("get: \"/v1/{a=**}/x\"", "** before its end"),
        ("get: \"/v1\" body: \"*\"", "no body"),
        ("post: \"/v1\" body: \"nope\"", "no field nope"),
        ("post: \"/v1\" response_body: \"nope\"", "no field nope"),
        (
            "post: \"/v1/{a}\" body: \"a\"",
            "by the path and by the body",
        ),
        (
            "custom: { kind: \"B D\" path: \"/v1\" }",
            "not an HTTP method",
        ),
        ("body: \"*\"", "no method and path"),
    ] {
        let error = build(&rpc(rule)).unwrap_err();
        assert!(
            error.starts_with("t.S.R: ") && error.contains(part),
            "{rule}: {error}"
        );
    }
}

#[test]
fn the_same_route_twice_is_refused() {
    let error = build(&rpc(
        "get: \"/v1/{a}\" additional_bindings { get: \"/v1/{inner.a}\" }",
    ))
    .unwrap_err();
    assert_eq!(
        error,
        "t.S.R: GET /v1/{inner.a} is already the route of t.S.R"
    );
}

#[test]
fn client_streams_cannot_be_routes() {
    let rule = "option (google.api.http) = { post: \"/v1\" body: \"*\" };";
    let error = build(&format!("rpc R(stream M) returns (M) {{ {rule} }}")).unwrap_err();
    assert!(error.starts_with("t.S.R: a client stream"), "{error}");
}

#[test]
fn a_server_without_annotations_is_refused() {
    let error = build("rpc R(M) returns (M);").unwrap_err();
    assert!(error.contains("no rpc of the 1 service(s)"), "{error}");
}

#[test]
fn an_rpc_can_take_a_page_of_the_gateways_own() {
    let gateway = build(&rpc("get: \"/health\"")).unwrap();
    assert_eq!(gateway.routes(), [("GET".to_owned(), "/health".to_owned())]);
    let _ = gateway.router();
}

#[test]
fn faulty_configurations_are_refused() {
    let shop = |config| {
        let backend = Backend::in_process(Shop::new(Reflection::None).routes);
        Gateway::build(config, pool(), backend)
            .unwrap_err()
            .to_string()
    };
    let alias = |text: &str| {
        shop(GatewayConfig {
            aliases: vec![text.parse().unwrap()],
            ..GatewayConfig::default()
        })
    };
    assert!(alias("POST /old -> POST /v1/nope").contains("no rpc has the route POST /v1/nope"));
    assert!(alias("POST /old -> DELETE /v1/items:echo").contains("no rpc has the route"));
    assert!(
        alias("POST /old/{a} -> GET /v1/items/{b}").contains("a variable that the path has not")
    );
    assert!(alias("POST old -> GET /v1/items/b").starts_with("alias POST old: "));
    for origin in [
        "app.example.com",
        "https://app.example.com/",
        "https://a/b",
        "null",
    ] {
        let config = GatewayConfig {
            cors_allowed_origins: vec![origin.to_owned()],
            ..GatewayConfig::default()
        };
        assert!(
            shop(config).starts_with("cors_allowed_origins: "),
            "{origin}"
        );
    }
    assert!(
        shop(GatewayConfig {
            json_depth_max: 31,
            ..GatewayConfig::default()
        })
        .starts_with("json_depth_max: ")
    );
    assert!(
        shop(GatewayConfig {
            requests_max: 0,
            ..GatewayConfig::default()
        })
        .starts_with("requests_max: ")
    );
    let backend = Backend::in_process(Shop::new(Reflection::None).routes);
    let error =
        Gateway::from_descriptor_set(GatewayConfig::default(), b"\xff\xff", backend).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the descriptor set cannot be read")
    );
}
