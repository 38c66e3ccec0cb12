"""What a client is given: addresses and settings of callers, statuses of servers of any version."""

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata
from hypothesis import given
from hypothesis import strategies as st

from replcache.client.durations import parse_seconds
from replcache.client.status import BY_REASON, from_rpc_error, from_status
from replcache.client.url import parse_settings
from replcache.errors import InvalidRequest, ReplcacheError
from replcache.server.status_map import to_status
from tests.fuzz.inputs import damaged, fuzz, messages

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
INFOS = messages(
    error_details_pb2.ErrorInfo,
    reason=st.sampled_from(sorted(BY_REASON)),
    metadata=st.dictionaries(st.sampled_from(["may_have_executed", "field", "limit"]), TEXTS, max_size=2),
)
DETAILS = st.one_of(INFOS, messages(error_details_pb2.RetryInfo), messages(error_details_pb2.BadRequest))


@st.composite
def statuses(draw: st.DrawFn) -> status_pb2.Status:
    status = status_pb2.Status(code=draw(st.integers(-1, 40)), message=draw(TEXTS))
    for detail in draw(st.lists(DETAILS, max_size=3)):
        part = any_pb2.Any()
        part.Pack(detail)
        if draw(st.integers(0, 3)) == 0:
            part.value = draw(damaged(part.value))
        status.details.append(part)
    return status


@fuzz(300)
@given(statuses())
def test_any_status_is_one_of_our_errors(status: status_pb2.Status) -> None:
    error = from_status(status)
    assert isinstance(error, ReplcacheError)
    assert isinstance(error.may_have_executed, bool)
    assert error.retry_after_s is None or isinstance(error.retry_after_s, float)


@fuzz(200)
@given(statuses(), st.sampled_from(list(grpc.StatusCode)), st.data())
def test_any_trailer_is_one_of_our_errors(
    status: status_pb2.Status, code: grpc.StatusCode, data: st.DataObject
) -> None:
    value = data.draw(st.one_of(st.just(status.SerializeToString()), damaged(status.SerializeToString())))
    trailers = Metadata(("grpc-status-details-bin", value))
    error = from_rpc_error(AioRpcError(code, Metadata(), trailers, "details"))
    assert isinstance(error, ReplcacheError)


@fuzz(100)
@given(st.sampled_from(sorted(BY_REASON)), TEXTS, st.none() | st.floats(0, 1e6), st.booleans())
def test_an_error_survives_the_wire(
    reason: str, message: str, retry_after_s: float | None, executed: bool
) -> None:
    error = BY_REASON[reason](message, retry_after_s=retry_after_s, metadata={"key": message})
    error.may_have_executed = executed
    again = from_status(to_status(error))
    assert type(again) is type(error)
    assert (str(again), again.metadata, again.may_have_executed) == (str(error), error.metadata, executed)


PARAMETERS = ["timeout", "read", "max_staleness", "route", "tls", "session_ttl", "codec", "x"]
ODD_NUMBERS = ["²", "1s", "0", "nan", "1e400s", "9" * 400]
QUERIES = st.builds(
    "/?{}={}".format,
    st.sampled_from(PARAMETERS),
    st.one_of(st.text(max_size=6), st.sampled_from(ODD_NUMBERS)),
)
URLS = st.one_of(
    st.text(max_size=30),
    st.builds(
        "{}{}:{}{}".format,
        st.sampled_from(["", "replcache://", "replcaches://", "http://", "replcache://["]),
        st.text(max_size=5),
        st.sampled_from(["1", "7401", "0", "65536", "²", "٣", "-1", "", "9" * 5000, "1,h:2"]),
        st.one_of(st.text(max_size=8), QUERIES),
    ),
)
DURATIONS = st.builds(
    "{}{}".format,
    st.one_of(st.text("0123456789.²e", max_size=6), st.just("9" * 5000)),
    st.sampled_from(["s", "ms", "m", "h", "x", ""]),
)


@fuzz(500)
@given(URLS)
def test_any_url_is_settings_or_refused(url: str) -> None:
    try:
        settings = parse_settings(url, {}, {})
    except InvalidRequest:
        return
    assert settings.endpoints
    assert settings.timeout_s > 0


@fuzz(300)
@given(st.one_of(st.text(max_size=8), st.floats(), st.integers(), st.just(10**400), DURATIONS))
def test_any_duration_is_seconds_or_refused(given: object) -> None:
    try:
        seconds = parse_seconds(given, "timeout")  # type: ignore[arg-type]
    except InvalidRequest:
        return
    assert 0 <= seconds < float("inf")
