//! Makes the stubs from the .proto files. Needs protoc.

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let include = Path::new("../../../proto");
    let mut files = Vec::new();
    for entry in fs::read_dir(include.join("replcache/v1"))? {
        files.push(entry?.path());
    }
    tonic_prost_build::configure()
        .build_server(false)
        .include_file("protos.rs")
        .compile_protos(&files, &[include.to_path_buf()])
}
