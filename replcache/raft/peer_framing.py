"""Frames on a peer connection: cutting a byte stream into message bodies.

    frame = length (u32 LE) | CRC32C of the body (u32 LE) | body (`length` bytes)

An empty body is a ping (from the side that dialled) or its answer. No socket, no time and no protobuf here.

Rules: a length is checked before a byte of its body is kept, so a stranger's "4 GiB follow" costs four bytes;
work and memory are linear in what arrives (the parser holds at most one frame plus the chunk at hand); any
damage ends the connection, because after it nobody knows where the next frame starts.
"""

import struct

import google_crc32c

_HEADER = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
HEADER_BYTES = _HEADER.size

PING_FRAME = _HEADER.pack(0, google_crc32c.value(b""))


class PeerProtocolError(Exception):
    """The other side sent what no correct peer sends; the connection must end.

    Attributes:
        cause: short fixed word for counters: "malformed", "too_long" or "checksum".
    """

    def __init__(self, message: str, cause: str = "malformed") -> None:
        super().__init__(message)
        self.cause = cause


def frame_header(body: bytes) -> bytes:
    """The 8 bytes that go before `body`."""
    return _HEADER.pack(len(body), google_crc32c.value(body))


class FrameParser:
    """Incremental parser: feed() what arrived, then call next_frame() until it answers None.

    Attributes:
        frame_bytes_max: longest body that is accepted; may be raised after the handshake.
    """

    __slots__ = ("_chunk", "_offset", "_partial", "_partial_need", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        # What arrived last and is not consumed yet: _chunk[_offset:].
        self._chunk = b""
        self._offset = 0
        # The beginning of a frame that did not arrive whole. Invariant: less than one frame.
        self._partial = bytearray()
        self._partial_need = 0

    @property
    def buffered_bytes(self) -> int:
        return len(self._partial) + len(self._chunk) - self._offset

    def clear(self) -> None:
        """Forgets everything that was not asked for yet."""
        self._chunk = b""
        self._offset = 0
        self._partial = bytearray()

    def feed(self, data: bytes) -> None:
        if self._offset < len(self._chunk):
            # Only when the caller stopped in the middle and the transport delivered once more.
            data = self._chunk[self._offset :] + data
        self._chunk = data
        self._offset = 0

    def next_frame(self) -> bytes | None:
        """The next body, or None when more bytes are needed.

        Raises:
            PeerProtocolError: a length above the limit, or a wrong checksum.
        """
        if self._partial:
            return self._complete_partial()
        chunk, offset = self._chunk, self._offset
        available = len(chunk) - offset
        if available >= HEADER_BYTES:
            length, checksum = _HEADER.unpack_from(chunk, offset)
            self._check_length(length)
            begin = offset + HEADER_BYTES
            end = begin + length
            if end <= len(chunk):
                body = chunk[begin:end]
                self._offset = end
                if self._offset == len(chunk):
                    self._chunk, self._offset = b"", 0
                _check_sum(body, checksum)
                return body
            need = HEADER_BYTES + length
        else:
            if available == 0:
                return None
            if available >= _LENGTH.size:
                self._check_length(_LENGTH.unpack_from(chunk, offset)[0])
            need = HEADER_BYTES
        self._partial += memoryview(chunk)[offset:]
        self._partial_need = need
        self._chunk, self._offset = b"", 0
        return None

    def _complete_partial(self) -> bytes | None:
        """Continues a frame whose beginning is in `_partial`."""
        partial = self._partial
        if self._partial_need == HEADER_BYTES and len(partial) < HEADER_BYTES:
            self._move(HEADER_BYTES - len(partial))
            if len(partial) >= _LENGTH.size:
                self._check_length(_LENGTH.unpack_from(partial)[0])
            if len(partial) < HEADER_BYTES:
                return None
            self._partial_need = HEADER_BYTES + _LENGTH.unpack_from(partial)[0]
        self._move(self._partial_need - len(partial))
        if len(partial) < self._partial_need:
            return None
        checksum = _HEADER.unpack_from(partial)[1]
        body = bytes(memoryview(partial)[HEADER_BYTES:])
        # A new one, not clear(): a bytearray keeps its allocation.
        self._partial = bytearray()
        _check_sum(body, checksum)
        return body

    def _move(self, count: int) -> None:
        """Moves up to `count` bytes from the chunk at hand to `_partial`."""
        end = min(self._offset + count, len(self._chunk))
        self._partial += memoryview(self._chunk)[self._offset : end]
        self._offset = end
        if end == len(self._chunk):
            self._chunk, self._offset = b"", 0

    def _check_length(self, length: int) -> None:
        if length > self.frame_bytes_max:
            raise PeerProtocolError(
                f"a frame of {length} bytes was announced, {self.frame_bytes_max} are allowed", "too_long"
            )


def _check_sum(body: bytes, checksum: int) -> None:
    if google_crc32c.value(body) != checksum:
        raise PeerProtocolError(f"wrong checksum on a frame of {len(body)} bytes", "checksum")
