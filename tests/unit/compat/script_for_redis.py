"""A small program as one finds it in articles about caching; it runs unchanged with redis-py."""

import redis

shown = []
r = redis.Redis(host="localhost", port=PORT, db=0, decode_responses=True)  # noqa: F821  # given by the test
r.flushdb()
r.set("user:1:name", "Ada")
shown.append(str(r.exists("user:1:name")))
shown.append(r.get("user:1:name"))
shown.append(str(r.get("user:2:name")))
pipe = r.pipeline()
pipe.incr("visits")
pipe.incr("visits")
shown.append(str(pipe.execute()[-1]))
shown.append(str(r.mget("user:1:name", "user:2:name")))
try:
    r.incr("user:1:name")
except redis.exceptions.ResponseError:
    shown.append(str(r.setex("session", 30, "token")))
