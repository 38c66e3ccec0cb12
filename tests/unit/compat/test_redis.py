"""What replcache.compat has beside the plain commands: addresses, pipelines, locks, asyncio, errors."""

import ast
import asyncio
import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import replcache.compat as redis
from replcache import Client
from replcache.compat import aio
from replcache.compat.arguments import glob
from replcache.compat.commands import PLANNED, Commands
from replcache.errors import InvalidRequest
from tests.helpers.served_raft import ServingThread

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[ServingThread]:
    server = ServingThread()
    yield server
    server.close()


@pytest.fixture(name="r")
def _r(server: ServingThread) -> Iterator[Any]:
    with redis.Redis.from_url(server.url, decode_responses=True) as r:
        r.flushdb()
        yield r


def test_everyday_use(r: Any) -> None:
    assert r.set("greeting", "hello", ex=60) is True
    assert r.get("greeting") == "hello"
    assert r.set("greeting", "again", nx=True) is None
    assert 0 < r.ttl("greeting") <= 60
    assert r.incr("visits") == 1
    assert r.incr("visits", 10) == 11
    assert r.mget(["visits", "nothing"]) == ["11", None]
    assert r.keys("g*") == ["greeting"]
    assert sorted(r.scan_iter(count=1)) == ["greeting", "visits"]
    assert r.delete("greeting", "nothing") == 1


def test_emptying_one_database_leaves_the_others(server: ServingThread, r: Any) -> None:
    address = server.serving.server.grpc_address
    with redis.from_url(f"redis://{address}/1", decode_responses=True) as other:
        other.flushdb()
        other.set("theirs", 1)
        r.set("ours", 1)
        assert (r.keys(), other.keys(), r.dbsize()) == (["ours"], ["theirs"], 1)
        r.flushdb()
        assert (r.keys(), other.keys()) == ([], ["theirs"])
        other.flushdb()
        assert other.dbsize() == 0


def test_addresses(server: ServingThread) -> None:
    address = server.serving.server.grpc_address
    host, port = address.rsplit(":", 1)
    for make in (
        lambda: redis.Redis(host=host, port=int(port), db=0, socket_timeout=3, health_check_interval=30),
        lambda: redis.from_url(f"redis://{address}/0"),
        lambda: redis.StrictRedis.from_url(f"replcache://{address}/?timeout=3s"),
    ):
        with make() as r:
            assert r.ping()
    with pytest.raises(TypeError, match="nonsense"):
        redis.Redis(host, int(port), nonsense=1)
    with pytest.raises(ValueError, match="URL"):
        redis.from_url("memcached://x")


def test_addresses_of_ipv6() -> None:
    for r in (redis.Redis("::1", 7402), redis.Redis("[::1]", 7402), redis.from_url("redis://[::1]:7402/0")):
        assert r.client.settings.endpoints == ("[::1]:7402",)
        r.close()


def test_databases_are_apart(server: ServingThread) -> None:
    address = server.serving.server.grpc_address
    with redis.from_url(f"redis://{address}/1") as one, redis.from_url(f"redis://{address}/2") as two:
        one.set("k", 1)
        two.set("k", 2)
        one.flushdb()
        assert (one.get("k"), two.get("k"), two.keys()) == (None, b"2", [b"k"])


def test_calls_page_by_page_take_as_long_as_their_pages(r: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout is for each page: a large database takes many times that."""
    bounds: list[float] = []
    bridge = r.client._bridge
    run = bridge.run

    def watched(call: Any, timeout_s: float) -> Any:
        bounds.append(timeout_s)
        return run(call, timeout_s)

    monkeypatch.setattr(bridge, "run", watched)
    assert (r.keys(), r.dbsize(), list(r.scan_iter()), r.flushdb()) == ([], 0, [], True)
    assert set(bounds) == {math.inf}
    assert r.ping()
    assert bounds[-1] == r.client.settings.timeout_s


def test_a_pipeline_is_one_log_entry_and_an_error_undoes_nothing(server: ServingThread, r: Any) -> None:
    r.set("text", "abc")
    before = len(server.serving.raft.proposed)
    with r.pipeline() as pipe:
        pipe.set("a", 1).incr("a").incr("text").append("text", "d").get("text")
        assert len(pipe) == 5
        results = pipe.execute(raise_on_error=False)
    assert results[:2] == [True, 2]
    assert isinstance(results[2], redis.ResponseError)
    assert results[3:] == [4, "abcd"]
    assert len(server.serving.raft.proposed) == before + 1
    with pytest.raises(redis.ResponseError, match=r"Command # 1 \(INCRBY\)"):
        r.pipeline().incr("text").execute()


def test_errors_have_the_names_of_redis_py(r: Any) -> None:
    r.set("text", "abc")
    with pytest.raises(redis.ResponseError, match="not an integer"):
        r.incr("text")
    with pytest.raises(redis.DataError, match="bool"):
        r.set("k", True)
    with pytest.raises(redis.ResponseError, match="invalid expire time"):
        r.set("k", 1, ex=0)
    with redis.Redis("127.0.0.1", 1, socket_timeout=0.3) as nobody:
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
            nobody.get("k")


def test_locks(r: Any) -> None:
    lock = r.lock("job", timeout=5)
    with lock:
        assert lock.locked()
        assert lock.owned()
        assert lock.token > 0
        assert lock.extend(10)
        assert not r.lock("job", blocking=False).acquire()
        with pytest.raises(redis.LockError, match="within the time"), r.lock("job", blocking_timeout=0.05):
            pass
    assert not lock.locked()
    with pytest.raises(redis.LockError):
        lock.release()
    r.client.set("job/state", 1)


def test_a_conditional_expire(r: Any) -> None:
    r.set("k", 1)
    assert r.expire("k", 100, nx=True)
    assert not r.expire("k", 200, nx=True)
    assert r.expire("k", 200, gt=True)
    assert not r.expire("k", 300, lt=True)
    assert not r.expire("none", 300, nx=True)
    assert r.ttl("k") in (199, 200)


@pytest.mark.timeout(30)
def test_a_conditional_expire_that_is_refused_raises(r: Any) -> None:
    r.set("guarded/k", 1)
    r.client.guard("guarded/", by="l")
    try:
        with pytest.raises(redis.ResponseError, match="guard"):
            r.expire("guarded/k", 100, nx=True)
    finally:
        r.client.unguard("guarded/")


@pytest.mark.timeout(30)
def test_an_append_that_is_refused_leaves_no_key_behind(r: Any) -> None:
    assert r.append("small/k", "ab") == 2
    assert r.append("small/k", "c") == 3
    r.client.set_namespace("small", "small/", max_bytes=1000)
    try:
        with pytest.raises(redis.ResponseError, match=r"quota|room|bytes"):
            r.append("small/none", "x" * 2000)
        assert r.keys("small/*") == ["small/k"]
    finally:
        r.client.remove_namespace("small")


def test_values_in_parts(server: ServingThread, r: Any) -> None:
    with Client(server.url, part_bytes=100) as client:
        client.set("big", "x" * 1000)
    assert r.get("big") == "x" * 1000
    for change in (lambda: r.append("big", "y"), lambda: r.mget(["big", "k"])):
        with pytest.raises(redis.ResponseError, match="in parts"):
            change()
    for change in (lambda: r.incr("big"), lambda: r.incrbyfloat("big", 0.5)):
        with pytest.raises(redis.ResponseError, match="value is not"):
            change()
    assert r.get("big") == "x" * 1000


def test_asyncio_has_the_same(server: ServingThread) -> None:
    async def use() -> None:
        async with aio.Redis.from_url(server.url) as r:
            await r.flushdb()
            await r.set("a", 1)
            async with r.pipeline() as pipe:
                assert await pipe.incr("a").get("a").execute() == [2, b"2"]
            assert [name async for name in r.scan_iter("*")] == [b"a"]
            async with r.lock("job") as lock:
                assert await lock.owned()

    asyncio.run(use())
    assert {name for name in dir(aio.Redis) if not name.startswith("_")} - {
        "aclose",
        "commands",
        "execute",
        "send",
    } == {name for name in dir(redis.Redis) if not name.startswith("_")}


def test_arguments_are_in_the_order_of_redis_py() -> None:
    """The calls that the table of docs/redis.md promises."""
    theirs = pytest.importorskip("redis").Redis
    for name in PLANNED:
        ours = list(inspect.signature(getattr(Commands, name)).parameters)[1:]
        expected = list(inspect.signature(getattr(theirs, name)).parameters)[1:]
        assert expected[: len(ours)] == ours or name in (
            "delete",
            "exists",
            "unlink",
            "touch",
            "mget",
            "ping",
        ), name


@pytest.mark.parametrize(
    ("pattern", "prefix"), [(b"a*", b"a"), (b"*", b""), (b"a?b", b"a"), (b"\\*x", b"*x"), (b"a[b", b"a")]
)
def test_patterns_begin_with_what_is_literal(pattern: bytes, prefix: bytes) -> None:
    assert glob(pattern)[0] == prefix


def test_a_script_for_redis_py_runs(server: ServingThread) -> None:
    """The import is the only line that differs."""
    script = (ROOT / "tests/unit/compat/script_for_redis.py").read_text(encoding="utf-8")
    assert "import redis\n" in script
    names: dict[str, Any] = {"PORT": int(server.serving.server.grpc_address.rsplit(":", 1)[1])}
    exec(
        compile(
            ast.parse(script.replace("import redis\n", "import replcache.compat as redis\n")),
            "script",
            "exec",
        ),
        names,
    )
    assert names["shown"] == ["1", "Ada", "None", "2", "['Ada', None]", "True"]


def test_an_address_with_tls_is_taken_as_it_is(tmp_path: Path) -> None:
    """It goes to the client, which reads its parameters: here that of a file that is not there."""
    with (
        redis.Redis.from_url(f"replcaches://127.0.0.1:1/?ca={tmp_path}/no.pem") as r,
        pytest.raises((InvalidRequest, redis.RedisError), match=r"no\.pem"),
    ):
        r.get("key")
