//! Compiles `proto/` to Rust and to a descriptor set, in pure Rust: no protoc to install.

use std::{env, error::Error, fs, path::PathBuf};

/// The files whose services and messages the server implements.
const PROTO_FILES: [&str; 4] = [
    "ferrocast/v1/types.proto",
    "ferrocast/v1/feature_service.proto",
    "ferrocast/v1/prediction_service.proto",
    "ferrocast/v1/model_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(PROTO_FILES)?;

    // The encoded form keeps the google.api.http annotations, which the decoded types have no field for.
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out_dir.join("ferrocast_descriptor.bin"),
        compiler.encode_file_descriptor_set(),
    )?;

    tonic_prost_build::configure()
        .build_client(true)
        .codec_path("crate::grpc::SmallBuffers")
        .compile_well_known_types(false)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
