"""Values <-> bytes, with the MIME type recorded beside them.

| Python value | stored as | content type |
|---|---|---|
| bytes, bytearray, memoryview | as is | "" (application/octet-stream) |
| str | UTF-8 | text/plain |
| int, float, bool, None, list, tuple, dict | JSON (integers are plain decimal text) | application/json |
| lists and dicts that JSON can't hold (bytes, keys that are no str) | MessagePack | application/msgpack |
| numpy.ndarray (when numpy is installed) | .npy, never with pickled objects | application/x-npy |
| Typed(data, content_type) | as is | the given one |

That is codec "auto". "json" leaves MessagePack out; "msgpack" takes it for every list, dict, bool and None.
"pickle" pickles everything that is not bytes, str or a number: only Python reads it, and whoever may write
to the cache may run code in the process that reads it. A client without that codec never unpickles.

Integers are decimal text, so the server's increment works on what `set` stored. A tuple comes back as a
list (except from pickle). Bytes of an unknown content type come back as bytes.
"""

import importlib
import importlib.util
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from replcache.errors import InvalidRequest, WrongType

BYTES = ""
TEXT = "text/plain"
JSON = "application/json"
NPY = "application/x-npy"
MSGPACK = "application/msgpack"
PICKLE = "application/x-python-pickle"
CODECS = ("auto", "json", "msgpack", "pickle")

# What AutoCodec says of itself: known to be good, so that plain calls need not look at it.
OWN_TYPES = frozenset({BYTES, TEXT, JSON, NPY, MSGPACK, PICKLE})

_BYTES_TYPES = frozenset({BYTES, "application/octet-stream"})


@dataclass(frozen=True, slots=True)
class Typed:
    """Bytes of a kind that no Python type stands for, such as Typed(png, "image/png").

    `entry.raw` has them back, and so has `entry.value` unless the content type is one of the table above.
    """

    data: bytes
    content_type: str


class Codec(Protocol):
    """What a client needs to store and read Python values."""

    def encode(self, value: object) -> tuple[bytes, str]:
        """(bytes, content type); raises InvalidRequest when the value can't be stored."""
        ...

    def decode(self, data: bytes, content_type: str) -> Any:
        """The value; raises WrongType when the bytes are not what the content type says."""
        ...


class AutoCodec:
    """The table above. `structured` chooses the form of lists, dicts, bools and None: one of CODECS."""

    def __init__(self, structured: str = "auto") -> None:
        if structured not in CODECS:
            raise InvalidRequest(f"codec={structured!r}: one of {', '.join(CODECS)}", field="codec")
        self.structured = structured

    def encode(self, value: object) -> tuple[bytes, str]:
        kind = type(value)
        if kind is bytes:
            return value, BYTES  # type: ignore[return-value]  # narrowed by `kind is bytes`
        if kind is str:
            return _encode_text(value), TEXT  # type: ignore[arg-type]  # narrowed by `kind is str`
        if kind is int:
            return str(value).encode(), JSON
        return self._encode_other(value)

    def _encode_other(self, value: object) -> tuple[bytes, str]:
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value), BYTES
        if isinstance(value, Typed):
            return value.data, value.content_type
        if isinstance(value, str):
            return _encode_text(value), TEXT
        # Numbers stay decimal text in every codec: increments and `update(add=)` work on them.
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _encode_json(value), JSON
        if self.structured == "pickle":
            from replcache.client import pickled

            return pickled.encode(value), PICKLE
        if value is None or isinstance(value, bool | list | tuple | dict):
            return self._encode_structured(value)
        if type(value).__module__ == "numpy" and hasattr(value, "__array_interface__"):
            return _encode_npy(value), NPY
        raise InvalidRequest(
            f"a value of type {type(value).__name__} can't be stored: use bytes, str, numbers, bool, None, "
            'lists and dicts of these, a numpy array, or codec="pickle"',
            field="value",
        )

    def _encode_structured(self, value: object) -> tuple[bytes, str]:
        if self.structured == "msgpack":
            return _encode_msgpack(value), MSGPACK
        try:
            return _encode_json(value), JSON
        except InvalidRequest as refusal:
            # Bytes, or keys that are no str. What is too deep, or no number, is so in any form.
            is_final = self.structured == "json" or not isinstance(refusal.__cause__, TypeError)
            if is_final or importlib.util.find_spec("msgpack") is None:
                raise
            try:
                return _encode_msgpack(value), MSGPACK
            except InvalidRequest:
                raise refusal from None

    def decode(self, data: bytes, content_type: str) -> Any:
        if content_type in _BYTES_TYPES:
            return data
        mime = content_type.partition(";")[0].strip().lower()
        decoder = bytes.decode if mime.startswith("text/") else _DECODERS.get(mime)
        if decoder is None:
            return self._decode_pickle(data) if mime == PICKLE else data
        try:
            return decoder(data)
        except (ValueError, TypeError, RecursionError) as err:
            raise WrongType(f"the stored bytes are no valid {content_type}: {err}") from err

    def _decode_pickle(self, data: bytes) -> Any:
        if self.structured != "pickle":
            raise WrongType(
                "the value is pickled, and unpickling runs code of whoever wrote it: make the client with "
                'codec="pickle" if all writers are trusted, or use Entry.raw'
            )
        from replcache.client import pickled

        return pickled.decode(data)


def _encode_text(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as err:
        raise InvalidRequest(f"the text is not encodable as UTF-8: {err}", field="value") from err


def _encode_json(value: object) -> bytes:
    try:
        _check_json(value)
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as err:
        raise InvalidRequest(f"the value is not storable as JSON: {err}", field="value") from err


def _check_json(value: object) -> None:
    """json.dumps turns keys like 1 and None into text without a word: what is read back would differ."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"key {key!r} of a dict is no str")
            _check_json(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_json(item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no JSON number")


def _encode_npy(array: Any) -> bytes:
    numpy = importlib.import_module("numpy")
    buffer = io.BytesIO()
    try:
        numpy.save(buffer, numpy.asarray(array), allow_pickle=False)
    except ValueError as err:
        raise InvalidRequest(f"the array can't be stored: {err}", field="value") from err
    return buffer.getvalue()


def _decode_npy(data: bytes) -> Any:
    try:
        numpy = importlib.import_module("numpy")
    except ImportError as err:
        raise WrongType("the value is a numpy array and numpy is not installed; use Entry.raw") from err
    return numpy.load(io.BytesIO(data), allow_pickle=False)


def _msgpack(name: str) -> Callable[..., Any]:
    try:
        module = importlib.import_module("msgpack")
    except ImportError as err:
        raise WrongType("msgpack is not installed; use Entry.raw, or pip install msgpack") from err
    function: Callable[..., Any] = getattr(module, name)
    return function


def _encode_msgpack(value: object) -> bytes:
    pack = _msgpack("packb")
    try:
        packed: bytes = pack(value, use_bin_type=True)
    except (TypeError, ValueError, OverflowError, RecursionError) as err:
        raise InvalidRequest(f"the value is not storable as MessagePack: {err}", field="value") from err
    return packed


def _decode_msgpack(data: bytes) -> Any:
    return _msgpack("unpackb")(data, raw=False, strict_map_key=False)


_DECODERS: dict[str, Callable[[bytes], Any]] = {
    JSON: json.loads,
    NPY: _decode_npy,
    MSGPACK: _decode_msgpack,
}
