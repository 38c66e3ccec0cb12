"""Questions between the servers of real nodes."""

import asyncio
from pathlib import Path

from replcache.constants import PEER_ANSWER_BYTES_MAX
from tests.helpers.raft_cluster import RaftCluster
from tests.helpers.wait import async_wait_until, scaled


async def test_peers_answer_what_they_know(tmp_path: Path) -> None:
    cluster = RaftCluster(tmp_path)
    try:
        await cluster.start()
        await cluster.wait_leader()
        n1, n2, n3 = (cluster.nodes[name] for name in ("n1", "n2", "n3"))
        await async_wait_until(lambda: len(n1.engine.connected) == 2, what="n1 reaches both")

        async def echo(payload: bytes) -> bytes:
            return b"n2 heard " + payload

        async def too_much(_: bytes) -> bytes:
            return bytes(PEER_ANSWER_BYTES_MAX + 1)

        never = asyncio.Event()

        async def silent(_: bytes) -> bytes:
            await never.wait()
            return b""

        async def broken(_: bytes) -> bytes:
            raise RuntimeError("a bug in the answerer")

        n2.answer("echo", echo)
        n3.answer("echo", too_much)
        n3.answer("silence", silent)
        n2.answer("silence", echo)
        now = cluster.clock.now
        assert await n1.ask("echo", b"hello", now() + scaled(5)) == {"n2": b"n2 heard hello"}
        assert await n1.ask("who are you", b"", now() + scaled(5)) == {}
        # A bug in an answer costs that answer, not the node: n2 halted would be in cluster.halts.
        n2.answer("broken", broken)
        n3.answer("broken", echo)
        assert await n1.ask("broken", b"!", now() + scaled(5)) == {"n3": b"n2 heard !"}
        # One that says nothing costs the deadline, and no more.
        assert await n1.ask("silence", b"!", now() + 0.2) == {"n2": b"n2 heard !"}
        never.set()
        many = await asyncio.gather(*(n1.ask("echo", b"%d" % i, now() + scaled(5)) for i in range(20)))
        assert many == [{"n2": b"n2 heard %d" % i} for i in range(20)]
        await cluster.stop("n2")
        await async_wait_until(lambda: n1.engine.connected == {"n3"}, what="n1 sees that n2 is gone")
        assert await n1.ask("echo", b"", now() + scaled(5)) == {}
        assert not cluster.halts
    finally:
        await cluster.stop()
