"""What Client and AsyncClient share: arguments -> requests. No waiting happens here, so that both clients
check, encode and decode in the same way.
"""

import random
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from replcache.client import convert
from replcache.client.batches import Converter, GetManyBatch, SetManyBatch, plain_size
from replcache.client.codec import OWN_TYPES, AutoCodec, Codec
from replcache.client.core import ClientCore
from replcache.client.durations import Duration, parse_seconds, parse_ttl_ms
from replcache.client.requests import (
    UNSET,
    Fence,
    Key,
    Unset,
    check_encoded,
    check_value,
    delete_operation,
    increment_operation,
    key_bytes,
    set_operation,
    touch_operation,
    update_operation,
)
from replcache.client.tracing import client_tracing
from replcache.client.types import Consistency
from replcache.client.url import parse_settings
from replcache.clock import Clock, SystemClock
from replcache.constants import BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX
from replcache.errors import InvalidRequest
from replcache.pb.v1 import cache_pb2

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

# A merge patch is JSON whatever the codec of values is.
MERGE_CODEC = AutoCodec("json")
Prepared = tuple[cache_pb2.Operation, Converter]


class BaseClient:
    """Settings, codec and argument handling."""

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout: Duration | None = None,
        read: Consistency | str | None = None,
        max_staleness: Duration | None = None,
        route: str | None = None,
        tls: bool | None = None,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        server_name: str | None = None,
        session_ttl: Duration | None = None,
        codec: str | Codec | None = None,
        part_bytes: int | None = None,
        token: str | None = None,
        token_file: str | None = None,
        insecure: bool | None = None,
        tracer_provider: "TracerProvider | None" = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Only reads the arguments; connections are made by the first call.

        Args:
            url: "replcache://host:port,host:port/?name=value" or "host:port,host:port"; None: the
                environment variable REPLCACHE_URL. The following arguments are also URL parameters
                (client/url.py), and win over them.
            timeout: for each call, with all its retries; default 5 s, which a failover fits into.
            read, max_staleness: for reads that do not say otherwise; the bound is for Consistency.ONE.
            route: "leader" (saves a hop) or "any" (stay with one node).
            tls, ca, cert, key, server_name: files in PEM form; server_name replaces the address in the
                check of the server's certificate.
            session_ttl: how long the cluster remembers this client's writes while it is silent.
            codec: "auto", "json", "msgpack", "pickle", or an object with encode and decode (client/codec.py).
            part_bytes: values above twice this are stored in parts of this size; default 512 KiB.
            token, token_file: who this client is; default: REPLCACHE_TOKEN or REPLCACHE_TOKEN_FILE.
            insecure: True: send the token without TLS to other machines too.
            tracer_provider: of OpenTelemetry, for spans of calls; None: as OTEL_* say (docs/tracing.md).
            clock, rng: for tests.

        Raises:
            InvalidRequest: an argument is not acceptable.
        """
        arguments: dict[str, object] = {
            "timeout": timeout,
            "read": read,
            "max_staleness": max_staleness,
            "route": route,
            "tls": tls,
            "ca": ca,
            "cert": cert,
            "key": key,
            "server_name": server_name,
            "session_ttl": session_ttl,
            "codec": codec if isinstance(codec, str) else None,
            "part_bytes": part_bytes,
            "token": token,
            "token_file": token_file,
            "insecure": insecure,
        }
        self.settings = parse_settings(url, arguments)
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._rng = rng if rng is not None else random.Random()
        custom = None if isinstance(codec, str) else codec
        self._core = ClientCore(self.settings, self._clock, self._rng, custom)
        self._core.tracing = client_tracing(tracer_provider)
        self._codec = self._core.codec
        self._whole_max = self.settings.whole_bytes_max

    def _share(self, other: "BaseClient") -> None:
        """Becomes another face of the same client."""
        self.settings = other.settings
        self._clock = other._clock
        self._rng = other._rng
        self._core = other._core
        self._codec = other._codec
        self._whole_max = other._whole_max

    # --- arguments ---

    def _timeout_s(self, timeout: Duration | None) -> float:
        if timeout is None:
            return self.settings.timeout_s
        seconds = parse_seconds(timeout, "timeout")
        if seconds <= 0:
            raise InvalidRequest(f"timeout={timeout!r} must be above 0", field="timeout")
        return seconds

    def _level(
        self, read: Consistency | str | None, max_staleness: Duration | None
    ) -> tuple[Consistency, int]:
        """(level, max_staleness_ms); a bound alone asks for Consistency.ONE."""
        settings = self.settings
        if max_staleness is not None:
            bound_ms = parse_ttl_ms(max_staleness, "max_staleness")
            if read is not None and Consistency(read) is not Consistency.ONE:
                raise InvalidRequest("max_staleness goes with Consistency.ONE only", field="max_staleness")
            return Consistency.ONE, bound_ms
        if read is None:
            level = settings.read
        else:
            try:
                level = Consistency(read)
            except ValueError:
                raise InvalidRequest(
                    f"read={read!r}: one of {', '.join(Consistency)}", field="read"
                ) from None
        return level, settings.max_staleness_ms if level is Consistency.ONE else 0

    def _encode(self, value: object) -> tuple[bytes, str]:
        data, content_type = self._encoded(value)
        return check_value(data), content_type

    def _encoded(self, value: object) -> tuple[bytes, str]:
        """What the codec says, of any size; InvalidRequest when it is nothing that a message can hold."""
        data, content_type = self._codec.encode(value)
        if type(data) is not bytes or type(content_type) is not str or content_type not in OWN_TYPES:
            check_encoded(data, content_type)
        return data, content_type

    # --- operations ---

    def _set(
        self,
        key: Key,
        value: object,
        *,
        nx: bool,
        xx: bool,
        if_value: object,
        **options: Any,
    ) -> Prepared:
        return self._set_encoded(key, *self._encode(value), nx=nx, xx=xx, if_value=if_value, **options)

    def _set_encoded(
        self,
        key: Key,
        data: bytes,
        content_type: str,
        *,
        nx: bool,
        xx: bool,
        if_value: object,
        **options: Any,
    ) -> Prepared:
        operation = set_operation(
            key_bytes(key),
            data,
            content_type,
            if_absent=nx,
            if_present=xx,
            if_value=self._optional_value(if_value),
            **options,
        )
        return operation, convert.set_result

    def _optional_value(self, value: object) -> bytes | None:
        return None if isinstance(value, Unset) else self._encode(value)[0]

    def _update(
        self,
        key: Key,
        value: object,
        append: str | bytes | None,
        add: int | float | None,
        merge: Mapping[str, object] | None,
        if_value: object,
        **options: Any,
    ) -> Prepared:
        operation = update_operation(
            key_bytes(key),
            replace=None if isinstance(value, Unset) else self._encode(value),
            append=None if append is None else self._appended(append),
            add=add,
            merge=None if merge is None else self._merged(merge),
            if_value=self._optional_value(if_value),
            **options,
        )
        return operation, convert.update_result

    def _appended(self, value: str | bytes) -> bytes:
        if not isinstance(value, str | bytes | bytearray | memoryview):
            raise InvalidRequest(f"append={value!r}: str or bytes", field="append")
        return self._encode(value)[0]

    def _merged(self, value: Mapping[str, object]) -> bytes:
        if not isinstance(value, Mapping):
            raise InvalidRequest(f"merge={value!r}: a dict", field="merge")
        data, _ = MERGE_CODEC.encode(dict(value))
        return check_value(data)

    def _delete(self, key: Key, if_value: object, **options: Any) -> Prepared:
        operation = delete_operation(key_bytes(key), if_value=self._optional_value(if_value), **options)
        return operation, convert.delete_result

    def _touch(self, key: Key, **options: Any) -> Prepared:
        return touch_operation(key_bytes(key), **options), convert.touch_result

    def _incr(self, key: Key, delta: int, **options: Any) -> Prepared:
        return increment_operation(key_bytes(key), delta, **options), convert.increment_result

    # --- many keys ---

    def _set_many(
        self, items: Mapping[Any, object], ttl: Duration | None, timeout_s: float
    ) -> tuple[list[tuple[list[Any], SetManyBatch]], dict[Any, tuple[bytes, str]]]:
        """(keys as given, batch) for each message, split by content type and by the limits of a batch; and
        the encoded values that are too large for that."""
        large: dict[Any, tuple[bytes, str]] = {}
        ttl_ms = parse_ttl_ms(ttl, "ttl")
        now = self._clock.now()
        parts: list[tuple[list[Any], SetManyBatch]] = []
        open_parts: dict[str, tuple[list[Any], SetManyBatch]] = {}
        for key, value in items.items():
            data, content_type = self._encoded(value)
            if len(data) > self._whole_max:
                large[key] = data, content_type
                continue
            name = key_bytes(key)
            size = plain_size(name, data)
            part = open_parts.get(content_type)
            if part is None or not part[1].has_room(size):
                part = ([], SetManyBatch(content_type, ttl_ms, timeout_s, now))
                open_parts[content_type] = part
                parts.append(part)
            given, batch = part
            given.append(key)
            batch.keys.append(name)
            batch.values.append(data)
            batch.size_bytes += size
        return parts, large

    def _get_many(
        self, keys: Iterable[Any], level: Consistency, max_staleness_ms: int, timeout_s: float
    ) -> list[tuple[list[Any], GetManyBatch]]:
        now = self._clock.now()
        parts: list[tuple[list[Any], GetManyBatch]] = []
        for key in dict.fromkeys(keys):
            name = key_bytes(key)
            size = plain_size(name, b"")
            if not parts or not parts[-1][1].has_room(size):
                batch = GetManyBatch(convert.LEVELS[level], max_staleness_ms, timeout_s, now)
                parts.append(([], batch))
            given, batch = parts[-1]
            given.append(key)
            batch.keys.append(name)
            batch.size_bytes += size
        return parts


def check_batch_size(operations: list[Prepared]) -> None:
    """One log entry holds it all, or nothing is sent."""
    size = sum(operation.ByteSize() + 16 for operation, _ in operations)
    if len(operations) > BATCH_OPERATIONS_MAX or size > BATCH_BYTES_MAX:
        raise InvalidRequest(
            f"the batch has {len(operations)} operations and {size} bytes; at most {BATCH_OPERATIONS_MAX} "
            f"and {BATCH_BYTES_MAX}",
            field="operations",
        )


__all__ = ["MERGE_CODEC", "UNSET", "BaseClient", "Fence", "Key", "Prepared", "check_batch_size"]
