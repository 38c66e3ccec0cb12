#!/bin/sh -e
# Packages for Node.js, in node_modules/. No stubs: the .proto files are loaded when the program starts.
npm ci --no-audit --no-fund --no-progress
