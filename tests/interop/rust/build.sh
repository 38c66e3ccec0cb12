#!/bin/sh -e
# Stubs (by build.rs, with protoc), packages and programs for Rust, in target/.
cargo build --locked --quiet
