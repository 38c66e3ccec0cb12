#!/bin/sh -e
# Stubs for Go, in build/gen, and the programs. Needs protoc; the two plugins are tools of go.mod.
proto=../../../proto
mkdir -p build/bin build/gen
GOBIN="$PWD/build/bin" go install tool
PATH="$PWD/build/bin:$PATH" protoc -I$proto --go_out=build/gen --go-grpc_out=build/gen \
    $proto/replcache/v1/*.proto
go build -o build ./first ./scenario
