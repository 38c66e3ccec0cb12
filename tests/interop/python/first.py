"""Stores a value and reads it back. Usage: python first.py 127.0.0.1:7401"""

import sys

import grpc
from replcache.v1 import cache_pb2, cache_pb2_grpc

with grpc.insecure_channel(sys.argv[1]) as channel:
    cache = cache_pb2_grpc.CacheStub(channel)
    request = cache_pb2.SetRequest(key=b"greeting", value=b"hello", content_type="text/plain")
    request.ttl.FromSeconds(600)
    request.idempotency.request_id = b"a new one for each write: 16 random bytes"
    written = cache.Set(request, timeout=5)

    answer = cache.Get(cache_pb2.GetRequest(key=b"greeting"), timeout=5)
    if answer.HasField("entry"):
        print(answer.entry.value.decode(), "version", answer.entry.version)
    assert answer.entry.version == written.version
