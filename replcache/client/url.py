"""Where the cluster is and how to talk to it: URL + keyword arguments -> ClientSettings.

    replcache://127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403/?timeout=2s&read=linearizable
    replcaches://cache-1:7401,cache-2:7401/?ca=ca.pem&cert=me.pem&key=me.key      (TLS)
    127.0.0.1:7401,127.0.0.1:7402                                                 (just addresses)

Without an argument the environment variable REPLCACHE_URL is used. Keyword arguments win over the URL. The
token of REPLCACHE_TOKEN, or of the file that REPLCACHE_TOKEN_FILE names, is used when neither has one; a
token is in no repr and in no message of an error.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

from replcache.client.codec import CODECS
from replcache.client.durations import Duration, parse_seconds, parse_ttl_ms
from replcache.client.types import Consistency
from replcache.constants import (
    CLIENT_TIMEOUT_S,
    PART_BYTES,
    SESSION_TTL_MS_DEFAULT,
    SESSION_TTL_MS_MAX,
    SESSION_TTL_MS_MIN,
    VALUE_BYTES_MAX,
)
from replcache.errors import InvalidRequest
from replcache.hosts import is_loopback_host

ENVIRONMENT_VARIABLE = "REPLCACHE_URL"
TOKEN_VARIABLE = "REPLCACHE_TOKEN"
TOKEN_FILE_VARIABLE = "REPLCACHE_TOKEN_FILE"
DEFAULT_PORT = 7401
_E = TypeVar("_E", bound=StrEnum)
_SCHEMES = ("replcache", "replcaches")
_PARAMETERS = (
    "timeout", "read", "max_staleness", "route", "tls", "ca", "cert", "key", "server_name", "session_ttl",
    "codec", "part_bytes", "token", "token_file", "insecure",
)  # fmt: skip


class Route(StrEnum):
    """Where writes and linearizable reads go. Any node takes any request; the leader saves a hop."""

    LEADER = "leader"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Everything a client was told. Times in seconds, except where the name says otherwise."""

    endpoints: tuple[str, ...]
    timeout_s: float = CLIENT_TIMEOUT_S
    read: Consistency = Consistency.LINEARIZABLE
    max_staleness_ms: int = 0
    route: Route = Route.LEADER
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""
    server_name: str = ""
    session_ttl_ms: int = SESSION_TTL_MS_DEFAULT
    codec: str = "auto"
    part_bytes: int = PART_BYTES
    token: str = field(default="", repr=False)
    token_file: str = ""
    # Send the token over connections without TLS that leave this machine too.
    insecure: bool = False

    @property
    def whole_bytes_max(self) -> int:
        """Larger values are stored in parts."""
        return min(VALUE_BYTES_MAX, 2 * self.part_bytes)


def is_loopback(address: str) -> bool:
    """Whether host:port is on this machine."""
    return is_loopback_host(address.rpartition(":")[0].strip("[]"))


def parse_settings(
    url: str | None, arguments: Mapping[str, object], environment: Mapping[str, str] = os.environ
) -> ClientSettings:
    """Settings of a URL (or REPLCACHE_URL) and of keyword arguments, where None means "not given".

    Raises:
        InvalidRequest: no address, an unknown parameter, or a value that is not acceptable.
    """
    text = url if url is not None else environment.get(ENVIRONMENT_VARIABLE, "")
    if not text.strip():
        raise InvalidRequest(f"no address: pass a URL or set {ENVIRONMENT_VARIABLE}", field="url")
    addresses, parameters = _split(text.strip())
    parameters.update({name: value for name, value in arguments.items() if value is not None})
    tls = _as_bool(parameters.get("tls", any(parameters.get(name) for name in ("ca", "cert", "key"))), "tls")
    settings = ClientSettings(
        endpoints=_endpoints(addresses),
        timeout_s=_positive(parameters.get("timeout", CLIENT_TIMEOUT_S), "timeout"),
        read=_choice(Consistency, parameters.get("read", Consistency.LINEARIZABLE), "read"),
        max_staleness_ms=parse_ttl_ms(_duration(parameters.get("max_staleness")), "max_staleness"),
        route=_choice(Route, parameters.get("route", Route.LEADER), "route"),
        tls=tls,
        ca=str(parameters.get("ca", "")),
        cert=str(parameters.get("cert", "")),
        key=str(parameters.get("key", "")),
        server_name=str(parameters.get("server_name", "")),
        session_ttl_ms=parse_ttl_ms(
            _duration(parameters.get("session_ttl", SESSION_TTL_MS_DEFAULT / 1000)), "session_ttl"
        ),
        codec=str(parameters.get("codec", "auto")),
        part_bytes=_part_bytes(parameters.get("part_bytes", PART_BYTES)),
    )
    settings = _with_token(settings, parameters, environment)
    _check(settings)
    return settings


def _with_token(
    settings: ClientSettings, parameters: Mapping[str, object], environment: Mapping[str, str]
) -> ClientSettings:
    token, file = str(parameters.get("token", "")), str(parameters.get("token_file", ""))
    if token and file:
        raise InvalidRequest("token and token_file exclude each other", field="token")
    if not token and not file:
        token = environment.get(TOKEN_VARIABLE, "")
        file = "" if token else environment.get(TOKEN_FILE_VARIABLE, "")
    insecure = _as_bool(parameters.get("insecure", False), "insecure")
    return replace(settings, token=token, token_file=file, insecure=insecure)


def _split(text: str) -> tuple[str, dict[str, object]]:
    if "://" not in text:
        return text, {}
    try:
        parts = urlsplit(text)
    except ValueError as err:
        raise InvalidRequest(f"{_shown(text)!r}: {err}", field="url") from None
    text = _shown(text)
    if parts.scheme not in _SCHEMES:
        raise InvalidRequest(f"{text!r}: the scheme is one of {', '.join(_SCHEMES)}", field="url")
    if parts.path not in ("", "/") or parts.fragment:
        raise InvalidRequest(f"{text!r}: nothing but parameters may follow the addresses", field="url")
    parameters: dict[str, object] = {"tls": True} if parts.scheme == "replcaches" else {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _PARAMETERS:
            raise InvalidRequest(f"unknown parameter {name!r}; known: {', '.join(_PARAMETERS)}", field=name)
        parameters[name] = value
    return parts.netloc, parameters


def _shown(url: str) -> str:
    """A URL without what may be a secret in it."""
    return re.sub(r"(?i)(token=)[^&#]*", r"\1***", re.sub(r"//[^/?#]*@", "//***@", url))


def _endpoints(addresses: str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for part in addresses.split(","):
        address = part.strip()
        if not address:
            continue
        host, separator, port = address.rpartition(":")
        if not separator or address.endswith("]"):
            host, port = address, str(DEFAULT_PORT)
        if "@" in address or not host or not _is_port(port):
            # Before an @ there may be what somebody took for the place of a password.
            shown = "***@" + address.rpartition("@")[2] if "@" in address else address
            raise InvalidRequest(f"{shown!r} is no address: host:port", field="url")
        found[f"{host}:{port}"] = None
    if not found:
        raise InvalidRequest("no address: at least one host:port", field="url")
    return tuple(found)


def _is_port(text: str) -> bool:
    # Other digits than ASCII's are digits to isdigit() but not to int(), and int() refuses very long ones.
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65_536


def _check(settings: ClientSettings) -> None:
    if not settings.tls and (settings.ca or settings.cert or settings.key):
        raise InvalidRequest("ca, cert and key need tls", field="tls")
    if bool(settings.cert) != bool(settings.key):
        raise InvalidRequest("cert and key belong together", field="cert")
    if not SESSION_TTL_MS_MIN <= settings.session_ttl_ms <= SESSION_TTL_MS_MAX:
        raise InvalidRequest(
            f"session_ttl={settings.session_ttl_ms} ms: {SESSION_TTL_MS_MIN} to {SESSION_TTL_MS_MAX} ms",
            field="session_ttl",
        )
    if settings.codec not in CODECS:
        raise InvalidRequest(f"codec={settings.codec!r}: one of {', '.join(CODECS)}", field="codec")
    _check_token(settings)


def _check_token(settings: ClientSettings) -> None:
    if settings.token and not (settings.token.isascii() and settings.token.isprintable()):
        raise InvalidRequest("token: has characters that no token has", field="token")
    if " " in settings.token:
        raise InvalidRequest("token: has a space in it", field="token")
    if (settings.token or settings.token_file) and not (settings.tls or settings.insecure):
        outside = [address for address in settings.endpoints if not is_loopback(address)]
        if outside:
            raise InvalidRequest(
                f"a token would go to {outside[0]} in clear text: use TLS (tls, ca), or say insecure=True",
                field="token",
            )


def _duration(value: object) -> Duration | None:
    if isinstance(value, str) and value.isascii() and value.replace(".", "", 1).isdigit():
        return float(value)
    return value  # type: ignore[return-value]  # parse_ttl_ms refuses every other type with a clear message


def _positive(value: object, field: str) -> float:
    duration = _duration(value)
    seconds = parse_seconds(duration, field) if duration is not None else 0.0
    if seconds <= 0:
        raise InvalidRequest(f"{field}={value!r} must be above 0", field=field)
    return seconds


def _part_bytes(value: object) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 0 < int(text) <= VALUE_BYTES_MAX):
        raise InvalidRequest(f"part_bytes={value!r}: 1 to {VALUE_BYTES_MAX}", field="part_bytes")
    return int(text)


def _as_bool(value: object, field: str) -> bool:
    if isinstance(value, bool):
        return value
    known = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    try:
        return known[str(value).lower()]
    except KeyError:
        raise InvalidRequest(f"{field}={value!r}: true or false", field=field) from None


def _choice(kind: type[_E], value: object, field: str) -> _E:
    try:
        return kind(str(value).lower())
    except ValueError:
        raise InvalidRequest(f"{field}={value!r}: one of {', '.join(kind)}", field=field) from None
