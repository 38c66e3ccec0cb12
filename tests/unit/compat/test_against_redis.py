"""The same calls through redis-py to a redis-server and through replcache.compat to our server."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import replcache.compat as ours
from tests.helpers.redis_server import MISSING, RedisServer
from tests.helpers.served_raft import ServingThread

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING or "-")

keys = st.sampled_from(["a", "b", "c", "ab", b"\xff[x]"])
values = st.one_of(
    st.sampled_from(
        ["", "x", "text", b"\x00\xff", "007", "+1", " 1", "1.5", "-0", "9223372036854775807", True, None]
    ),
    st.integers(-5, 5),
    st.sampled_from([0.5, 1.25, -3.0]),
)
seconds = st.sampled_from([100, 1000, 5000])
HUGE = 2**62
amounts = st.sampled_from([1, -3, 0, HUGE])
patterns = st.sampled_from(
    ["*", "a*", "?", "[ab]", "[^a]", "a?", "*b", "\\a", "[a-b]*", "", "[a", "?\\[x\\]"]
)
flags = st.booleans()


class Call(NamedTuple):
    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]


def call(name: str, *args: Any, **options: Any) -> st.SearchStrategy[Call]:
    return st.builds(Call, st.just(name), st.tuples(*args), st.fixed_dictionaries({}, optional=options))


simple = st.one_of(
    call("get", keys),
    call(
        "set", keys, values, ex=seconds, px=st.just(700_000), nx=flags, xx=flags, keepttl=flags, get=flags,
        exat=st.just(1_950_000_000),
    ),
    call("set", keys, values),
    call("set", keys, values, ex=st.sampled_from([0, -1])),
    call("mget", st.lists(keys, min_size=1, max_size=3)),
    call("mset", st.dictionaries(keys, values, max_size=3)),
    call("setnx", keys, values),
    call("setex", keys, seconds, values),
    call("psetex", keys, st.just(900_000), values),
    call("getset", keys, values),
    call("getdel", keys),
    call("getex", keys, ex=seconds),
    call("getex", keys, persist=st.just(True)),
    call("incr", keys),
    call("incr", keys, amount=amounts),
    call("incrby", keys, amounts),
    call("decr", keys),
    call("decrby", keys, amounts),
    call("incrbyfloat", keys, st.sampled_from([0.5, -1.25, 3.0])),
    call("append", keys, values),
    call("strlen", keys),
    call("exists", keys, keys),
    call("delete", keys, keys),
    call("unlink", keys),
    call("expire", keys, st.sampled_from([200, -1, 0])),
    call("pexpire", keys, st.just(300_000)),
    call("expireat", keys, st.sampled_from([1_950_000_000, 1])),
    call("persist", keys),
    call("ttl", keys),
    call("pttl", keys),
    call("type", keys),
    call("touch", keys, keys),
    call("ping"),
)  # fmt: skip
alone = st.one_of(
    simple,
    call("expire", keys, seconds, nx=st.just(True)),
    call("expire", keys, seconds, xx=st.just(True)),
    call("expire", keys, seconds, gt=st.just(True)),
    call("expire", keys, seconds, lt=st.just(True)),
    call("keys", patterns),
    call("dbsize"),
    call("flushdb"),
)


def is_well_formed(one: Call) -> bool:
    """redis-py notices the others while it sends the pipeline, and Redis discards all of it then."""
    expiries = {"ex", "px", "exat"} & set(one.options)
    if one.name == "set" and (
        (one.options.get("nx") and one.options.get("xx"))
        or len(expiries) > 1
        or (expiries and one.options.get("keepttl"))
        or one.options.get("ex", 1) <= 0
    ):
        return False
    if one.name == "mset" and (not one.args[0] or {True, None} & set(one.args[0].values())):
        return False
    return one.name in ("mset", "mget") or not any(value is None or value is True for value in one.args)


def has_doubles_only(calls: list[Call]) -> bool:
    """Redis adds floats as long doubles: with integers beyond 2**53 the results differ (docs/redis.md)."""
    is_huge = any(HUGE in (*one.args[1:], one.options.get("amount")) for one in calls)
    return not (is_huge and any(one.name == "incrbyfloat" for one in calls))


class Both(NamedTuple):
    theirs: Any
    ours: Any


@pytest.fixture(name="servers", scope="module")
def _servers() -> Iterator[tuple[RedisServer, ServingThread]]:
    redis, replcache = RedisServer(), ServingThread()
    yield redis, replcache
    redis.close()
    replcache.close()


@pytest.fixture(name="both", params=[False, True], ids=["bytes", "text"], scope="module")
def _both(request: Any, servers: tuple[RedisServer, ServingThread]) -> Iterator[Both]:
    redis, replcache = servers
    both = Both(
        redis.client(decode_responses=request.param, encoding_errors="surrogateescape"),
        ours.Redis.from_url(replcache.url, decode_responses=request.param, encoding_errors="surrogateescape"),
    )
    yield both
    both.theirs.close()
    both.ours.close()


def outcome(function: Any, call: Call) -> Any:
    """The result, or which kind of error; ttls as about so many seconds."""
    try:
        result = function(*call.args, **call.options)
    except Exception as err:  # noqa: BLE001  # compared by name
        return type(err).__name__
    if call.name == "keys":
        return sorted(result, key=repr)
    if call.name == "ttl" and result > 0:
        return round(result / 20)
    if call.name == "pttl" and result > 0:
        return round(result / 20_000)
    return result


def compare(both: Both, one: Call) -> None:
    theirs, mine = outcome(getattr(both.theirs, one.name), one), outcome(getattr(both.ours, one.name), one)
    assert (type(theirs), theirs) == (type(mine), mine), (one, theirs, mine)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(alone, max_size=25).filter(has_doubles_only))
def test_the_same_calls_have_the_same_results(both: Both, calls: list[Call]) -> None:
    both.theirs.flushdb()
    both.ours.flushdb()
    for one in calls:
        compare(both, one)
    for key in ("a", "b", "c", "ab"):
        compare(both, Call("get", (key,), {}))
        compare(both, Call("ttl", (key,), {}))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(simple.filter(is_well_formed), min_size=1, max_size=10).filter(has_doubles_only))
def test_pipelines_have_the_same_results(both: Both, calls: list[Call]) -> None:
    both.theirs.flushdb()
    both.ours.flushdb()

    def run(redis: Any) -> Any:
        queued: list[Any] = []
        with redis.pipeline() as pipe:
            for one in calls:
                try:
                    assert getattr(pipe, one.name)(*one.args, **one.options) is pipe
                except Exception as err:  # noqa: BLE001  # compared by name
                    queued.append(type(err).__name__)
                else:
                    queued.append(one.name)
            results = pipe.execute(raise_on_error=False)
        sent = [one for one, name in zip(calls, queued, strict=True) if name == one.name]
        shown = [
            type(result).__name__
            if isinstance(result, Exception)
            else outcome(lambda result=result: result, Call(one.name, (), {}))
            for one, result in zip(sent, results, strict=True)
        ]
        return queued, shown

    theirs, mine = run(both.theirs), run(both.ours)
    if theirs[0] == mine[0]:
        assert theirs[1] == mine[1], calls
