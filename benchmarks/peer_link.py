"""Speed of the peer link on loopback: bytes and messages a second, and round trips.

    python benchmarks/peer_link.py [--tls] [--loop asyncio|uvloop] [--processes]

Two nodes; in one process they share a processor, with --processes each has its own. One line per figure.
"""

import argparse
import asyncio
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import trustme
import uvloop

from replcache.clock import SystemClock
from replcache.raft import messages as m
from replcache.raft.peers import PeerCallbacks, PeerTransport, TlsConfig

BULK = m.Append(term=1, entries=(m.WireEntry(1, 0, bytes(512 * 1024)),))
WINDOW_BYTES = 16 * 1024 * 1024


@dataclass
class Node:
    """One node; answers heartbeats and counts bulk."""

    name: str
    other: str
    transport: PeerTransport = field(init=False)
    # Set by the measuring side: called with each message.
    on_reply: Callable[[m.Message], None] = lambda _: None
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    def make(self, listen: str, tls: TlsConfig | None) -> None:
        self.transport = PeerTransport(
            node=self.name,
            cluster_id=b"benchmark",
            incarnation=1,
            listen_address=listen,
            hello_factory=m.Hello,
            peers={},
            callbacks=PeerCallbacks(
                on_message=self.received,
                is_member=lambda *_: True,
                on_fatal=lambda err: sys.exit(repr(err)),
                on_connected=lambda *_: self.connected.set(),
            ),
            clock=SystemClock(),
            rng=random.Random(1),
            tls=tls,
        )

    def received(self, peer: str, message: m.Message, epoch: int) -> None:
        if type(message) is m.Heartbeat:
            self.transport.send(peer, m.HeartbeatReply(message.term, message.round))
        elif type(message) is m.Append:
            self.transport.send(peer, m.AppendReply(1, message.sequence, True))
        else:
            self.on_reply(message)


async def measure(node: Node, label: str) -> None:
    await round_trips(node, label)
    await messages(node, label)
    await bulk(node, label)


async def round_trips(node: Node, label: str, count: int = 5000) -> None:
    times: list[float] = []
    done = asyncio.get_running_loop().create_future()
    begin = 0.0

    def reply(_: m.Message) -> None:
        nonlocal begin
        now = time.perf_counter()
        times.append(now - begin)
        if len(times) == count:
            done.set_result(None)
            return
        begin = now
        node.transport.send(node.other, m.Heartbeat(1, len(times)))

    node.on_reply = reply
    begin = time.perf_counter()
    node.transport.send(node.other, m.Heartbeat(1, 0))
    await done
    times.sort()
    p50, p99 = times[count // 2] * 1e6, times[count * 99 // 100] * 1e6
    print(f"{label}: round trip p50 {p50:.0f} us, p99 {p99:.0f} us")


async def messages(node: Node, label: str, count: int = 100_000, window: int = 1000) -> None:
    """Heartbeats with `window` of them under way; each is answered."""
    answered = sent = 0
    done = asyncio.get_running_loop().create_future()

    def reply(_: m.Message) -> None:
        nonlocal answered, sent
        answered += 1
        if sent < count:
            sent += node.transport.send(node.other, m.Heartbeat(1, sent))
        elif answered == count:
            done.set_result(None)

    node.on_reply = reply
    begin = time.perf_counter()
    for _ in range(window):
        sent += node.transport.send(node.other, m.Heartbeat(1, sent))
    await done
    rate = count / (time.perf_counter() - begin)
    print(f"{label}: {rate:,.0f} requests/s with a reply each ({2 * rate:,.0f} messages/s)")


async def bulk(node: Node, label: str, total: int = 1024**3) -> None:
    """512 KiB appends, 16 MiB under way, each acknowledged."""
    size = len(BULK.entries[0].payload)
    count = total // size
    answered = sent = 0
    done = asyncio.get_running_loop().create_future()

    def reply(_: m.Message) -> None:
        nonlocal answered, sent
        answered += 1
        if sent < count:
            sent += node.transport.send(node.other, BULK)
        elif answered == count:
            done.set_result(None)

    node.on_reply = reply
    begin = time.perf_counter()
    for _ in range(WINDOW_BYTES // size):
        sent += node.transport.send(node.other, BULK)
    await done
    print(f"{label}: {total / 1e6 / (time.perf_counter() - begin):,.0f} MB/s")


async def one_process(tls: list[TlsConfig | None], label: str) -> None:
    first, second = Node("n1", "n2"), Node("n2", "n1")
    for node, config in ((first, tls[0]), (second, tls[1])):
        node.make("127.0.0.1:0", config)
        await node.transport.start()
    first.transport.set_peers({"n2": second.transport.bound_address})
    second.transport.set_peers({"n1": first.transport.bound_address})
    await first.connected.wait()
    await second.connected.wait()
    await measure(first, label)
    await first.transport.close()
    await second.transport.close()


async def serve(pipe: "multiprocessing.connection.Connection", tls: TlsConfig | None) -> None:
    """The answering node, in its own process, until the pipe speaks again."""
    node = Node("n2", "n1")
    node.make("127.0.0.1:0", tls)
    await node.transport.start()
    pipe.send(node.transport.bound_address)
    node.transport.set_peers({"n1": pipe.recv()})
    await asyncio.to_thread(pipe.recv)
    await node.transport.close()


async def drive(pipe: "multiprocessing.connection.Connection", tls: TlsConfig | None, label: str) -> None:
    node = Node("n1", "n2")
    node.make("127.0.0.1:0", tls)
    await node.transport.start()
    node.transport.set_peers({"n2": pipe.recv()})
    pipe.send(node.transport.bound_address)
    await node.connected.wait()
    # The other direction too: a first answer.
    answered = asyncio.Event()
    node.on_reply = lambda _: answered.set()
    while not answered.is_set():
        node.transport.send("n2", m.Heartbeat())
        await asyncio.sleep(0.05)
    await measure(node, label)
    await node.transport.close()
    pipe.send("done")


def run(loop: str, work: Callable[[], "asyncio.Future[None]"]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        runner.run(work())  # type: ignore[arg-type]


def serve_process(pipe: "multiprocessing.connection.Connection", tls: TlsConfig | None, loop: str) -> None:
    quiet()
    run(loop, lambda: serve(pipe, tls))  # type: ignore[arg-type,return-value]


def quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))


def issue(directory: Path) -> list[TlsConfig]:
    authority = trustme.CA()
    configs = []
    for name in ("n1", "n2"):
        place = directory / name
        place.mkdir()
        leaf = authority.issue_cert(name)
        authority.cert_pem.write_to_path(str(place / "ca.pem"))
        leaf.private_key_pem.write_to_path(str(place / "key.pem"))
        leaf.cert_chain_pems[0].write_to_path(str(place / "cert.pem"))
        configs.append(TlsConfig(place / "ca.pem", place / "cert.pem", place / "key.pem"))
    return configs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="uvloop")
    parser.add_argument("--processes", action="store_true")
    options = parser.parse_args()
    quiet()
    label = f"{options.loop}{' tls' if options.tls else ''}{' 2 processes' if options.processes else ''}"
    with tempfile.TemporaryDirectory() as directory:
        tls: list[TlsConfig | None] = [*issue(Path(directory))] if options.tls else [None, None]
        if not options.processes:
            run(options.loop, lambda: one_process(tls, label))  # type: ignore[arg-type,return-value]
            return
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve_process, args=(theirs, tls[1], options.loop))
        process.start()
        run(options.loop, lambda: drive(ours, tls[0], label))  # type: ignore[arg-type,return-value]
        process.join(10)


if __name__ == "__main__":
    main()
