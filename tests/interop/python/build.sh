#!/bin/sh -e
# Stubs and packages for Python, in build/.
proto=../../../proto
python3 -m venv build/venv
build/venv/bin/pip install --quiet -r requirements.txt
build/venv/bin/python -m grpc_tools.protoc -I$proto --python_out=build --grpc_python_out=build \
    $proto/replcache/v1/*.proto
