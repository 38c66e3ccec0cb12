#!/bin/sh -e
# Stubs and programs for C++, in build/. Needs Debian's libgrpc++-dev, libprotobuf-dev, protobuf-compiler-grpc,
# pkg-config and cmake.
cmake -S . -B build
cmake --build build --parallel 2
