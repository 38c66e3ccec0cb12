"""The gRPC and HTTP face of a node. Talks to consensus only through raft/port.py."""

from replcache import grpc_settings as grpc_settings
