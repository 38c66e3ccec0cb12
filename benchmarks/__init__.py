"""Measurements, each one a command; docs/performance.md says what they found."""

# Before any of them loads gRPC.
from replcache import grpc_settings as grpc_settings
