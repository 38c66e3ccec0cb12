"""The open peer port of plain pysyncobj (H33-H38): real sockets on loopback, a stranger's bytes."""

import contextlib
import os
import pathlib
import pickle
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from pysyncobj import SyncObj, SyncObjConf, replicated

from tests.helpers.wait import wait_until
from tests.simulation.plain import Evidence


class _Victim(SyncObj):  # type: ignore[misc]
    def __init__(self, address: str, others: list[str]) -> None:
        super().__init__(
            address, others, SyncObjConf(autoTick=False, dynamicMembershipChange=True, useFork=False)
        )
        self.secrets: list[str] = []

    @replicated
    def keep(self, secret: str) -> None:
        self.secrets.append(secret)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Marker:
    """Its pickle, when loaded, makes a file: a stand-in for any command."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (self.path,)


class _Stranger:
    """A connection without any credentials."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.socket.setblocking(False)
        self.buffer = b""

    def send(self, message: object) -> None:
        self.send_bytes(frame(message))

    def send_bytes(self, data: bytes) -> None:
        self.socket.setblocking(True)
        self.socket.sendall(data)
        self.socket.setblocking(False)

    def received(self) -> list[Any]:
        """All whole messages so far (loads pickles of our own victim only)."""
        with contextlib.suppress(BlockingIOError):
            while data := self.socket.recv(65536):
                self.buffer += data
        messages, rest = [], self.buffer
        while len(rest) >= 4 and len(rest) >= 4 + struct.unpack("i", rest[:4])[0]:
            length = struct.unpack("i", rest[:4])[0]
            messages.append(pickle.loads(zlib.decompress(rest[4 : 4 + length])))
            rest = rest[4 + length :]
        return messages


def frame(message: object) -> bytes:
    data = zlib.compress(pickle.dumps(message))
    return struct.pack("i", len(data)) + data


@contextlib.contextmanager
def _victim(others: int = 0) -> Iterator[tuple[_Victim, _Stranger, list[str]]]:
    """A live node, a stranger connected to it, and the addresses of its (absent) peers."""
    port = _free_port()
    peers = [f"127.0.0.1:{_free_port()}" for _ in range(others)]
    node = _Victim(f"127.0.0.1:{port}", peers)
    try:
        wait_until(lambda: node.doTick(0.01) or node._SyncObj__transport.ready, what="bound")
        if not others:
            wait_until(lambda: node.doTick(0.01) or node._isLeader(), what="leads itself")
        stranger = _Stranger(port)
        try:
            yield node, stranger, peers
        finally:
            stranger.socket.close()
    finally:
        node._doDestroy()


def _ticks(node: _Victim, count: int = 20) -> None:
    for _ in range(count):
        node.doTick(0.005)


def show_h33(directory: pathlib.Path) -> Evidence:
    """The first message of a fresh connection is unpickled: code of a stranger runs."""
    marker = directory / "made-by-the-victim"
    with _victim() as (node, stranger, _):
        stranger.send(Marker(str(marker)))
        with contextlib.suppress(Exception):
            _ticks(node)
    return Evidence("H33", marker.exists(), "a stranger's code runs in the node", {"marker": marker.exists()})


def show_h34(directory: pathlib.Path) -> Evidence:
    """'readonly' is let in: it reads the state, and its append_entries overwrites the log."""
    with _victim() as (node, stranger, _):
        node.keep("the secret")
        wait_until(lambda: node.doTick(0.01) or node.secrets, what="applied")
        stranger.send("readonly")
        _ticks(node, 60)
        stranger.send(
            {
                "type": "next_node_idx",
                "reset": True,
                "next_node_idx": 2,
                "success": False,
            }
        )
        wait_until(
            lambda: node.doTick(0.01) or b"the secret" in pickle.dumps(stranger.received()),
            what="secret sent",
        )
        stranger.send(
            {
                "type": "append_entries",
                "term": 99,
                "commit_index": 1,
                "entries": [],
                "prevLogIdx": 1,
                "prevLogTerm": 0,
            }
        )
        wait_until(lambda: node.doTick(0.01) or node.raftCurrentTerm == 99, what="term taken over")
        entries = len(node._SyncObj__raftLog)
    return Evidence(
        "H34",
        entries == 1,
        "a stranger reads everything and erases the log",
        {"secret_read": True, "term": 99, "log_entries_left": entries},
    )


def show_h35(directory: pathlib.Path) -> Evidence:
    """Membership changes are accepted from anybody."""
    with _victim() as (node, stranger, _):
        stranger.send(["add", f"127.0.0.1:{_free_port()}"])
        wait_until(lambda: node.doTick(0.01) or node.otherNodes, what="member added")
        members = len(node.otherNodes) + 1
    return Evidence("H35", members == 2, "a stranger adds a member", {"members": members})


def show_h36(directory: pathlib.Path) -> Evidence:
    """A connection that claims to be a member is that member."""
    with _victim(others=2) as (node, stranger, peers):
        stranger.send(peers[0])
        stranger.send(
            {
                "type": "append_entries",
                "term": 77,
                "commit_index": 2,
                "entries": [(b"\x01", 2, 77)],
                "prevLogIdx": 1,
                "prevLogTerm": 0,
            }
        )
        wait_until(lambda: node.doTick(0.01) or node.raftCurrentTerm == 77, what="term taken over")
        leader = node._getLeader()
    return Evidence(
        "H36", leader is not None, "a stranger leads the cluster", {"term": 77, "leader": str(leader)}
    )


def show_h37(directory: pathlib.Path) -> Evidence:
    """The length of a frame is believed; a small frame may unpack to a thousand times its size."""
    with _victim() as (node, stranger, _):
        chunk = bytes(256 * 1024)
        stranger.send_bytes(struct.pack("i", 2**31 - 1))
        for _ in range(12):
            stranger.send_bytes(chunk)
            _ticks(node, 3)
        unknown = next(iter(node._SyncObj__transport._unknownConnections))
        buffered = len(unknown._TcpConnection__readBuffer)
    bomb = frame(bytes(20 * 1024 * 1024))
    return Evidence(
        "H37",
        buffered >= 12 * 256 * 1024 and len(bomb) * 900 < 20 * 1024 * 1024,
        "memory is the stranger's to fill",
        {"announced": 2**31 - 1, "buffered": buffered, "bytes_for_a_20_MiB_message": len(bomb)},
    )


def show_h38(directory: pathlib.Path) -> Evidence:
    """A silent connection stays for ever; a dict as first message raises in the tick."""
    raised = ""
    with _victim() as (node, stranger, _):
        _ticks(node, 50)
        silent = len(node._SyncObj__transport._unknownConnections)
        stranger.send({})
        try:
            _ticks(node, 100)
        except TypeError as error:
            raised = str(error)
    return Evidence(
        "H38",
        bool(raised) and silent == 1,
        "a stranger's first message is an exception in the node's tick",
        {"raised": raised, "silent_connections_kept": silent},
    )
