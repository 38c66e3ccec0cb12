"""The audit log: every administrative call, who made it, what it named, how it ended.

One record a call, written when it has ended (also when it was refused). Only fields that are listed here are
written: a field that is added to a request later is not in the log before somebody has thought about it.
"""

from typing import Any

from google.protobuf.message import Message

from replcache.observability.logs import AUDIT, get_logger

_log = get_logger(AUDIT)
# Names and settings; never values, never secrets.
FIELDS = frozenset(
    {
        "name", "peer_address", "client_address", "promote", "to", "prefix", "lock", "max_bytes", "policy",
        "namespace", "guard", "hot_keys",
    }
)  # fmt: skip
_SHOWN_CHARACTERS = 256


def record(call: str, who: str, by: str, source: str, request: Any, result: str) -> None:
    """Args:
    who: the user; "" without authentication.
    by: what proved it: `token <id>` or `certificate <name>`.
    result: "ok" or the error's reason.
    """
    what = describe(request) if isinstance(request, Message) else {}
    _log.info("admin_call", call=call, who=who, by=by, source=source, what=what, result=result)


def describe(request: Message) -> dict[str, Any]:
    """The listed fields that are set."""
    found: dict[str, Any] = {}
    for field, value in request.ListFields():
        if field.name in FIELDS:
            found[field.name] = describe(value) if isinstance(value, Message) else _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return value[:_SHOWN_CHARACTERS] if isinstance(value, str) else value
