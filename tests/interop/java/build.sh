#!/bin/sh -e
# Stubs, packages and classes for Java, in target/. Maven brings protoc and the gRPC plugin for it.
mvn --batch-mode --quiet package
