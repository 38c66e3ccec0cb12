"""Questions between the servers of the nodes, carried by the peer link: it is there, and it knows its peers.

A question has a name and bytes; what they mean is the server's business. It goes as an AdminRequest with the
action "ask NAME", so that a node of an older version answers with an error instead of breaking the link.
Nothing here touches consensus: a lost question or answer costs the asker its deadline.
"""

import asyncio
from typing import TYPE_CHECKING

import structlog

from replcache.constants import PEER_ANSWER_BYTES_MAX, PEER_QUESTIONS_MAX
from replcache.raft.messages import AdminReply, AdminRequest, Message
from replcache.raft.port import Answerer

if TYPE_CHECKING:
    from replcache.raft.node import RaftNode

log = structlog.get_logger("replcache.raft")

_PREFIX = "ask "
# Apart from the ids of administrative calls, which count from 1.
_FIRST_ID = 1 << 62


class Questions:
    """Both sides of one node. On the loop only."""

    def __init__(self, node: "RaftNode") -> None:
        self._node = node
        self._answerers: dict[str, Answerer] = {}
        # Answers that are waited for, by id: who was asked, and where the answer goes.
        self._open: dict[int, tuple[str, asyncio.Future[bytes | None]]] = {}
        self._id = _FIRST_ID
        self._answering = 0

    def answer(self, question: str, answerer: Answerer) -> None:
        self._answerers[question] = answerer

    async def ask(self, question: str, payload: bytes, deadline: float) -> dict[str, bytes]:
        """See port.RaftPort.ask."""
        engine, clock = self._node.engine, self._node.clock
        loop = asyncio.get_running_loop()
        asked: dict[int, tuple[str, asyncio.Future[bytes | None]]] = {}
        for peer in sorted(engine.connected):
            self._id += 1
            request = AdminRequest(self._id, engine.boot, _PREFIX + question, None, payload)
            if self._node.transport.send(peer, request):
                asked[self._id] = (peer, loop.create_future())
        if not asked:
            return {}
        self._open.update(asked)
        try:
            waiting = [future for _, future in asked.values()]
            await asyncio.wait(waiting, timeout=max(0.0, deadline - clock.now()))
        finally:
            for number in asked:
                del self._open[number]
        found = {peer: future.result() for peer, future in asked.values() if future.done()}
        return {peer: answer for peer, answer in found.items() if answer is not None}

    def take(self, peer: str, message: Message) -> bool:
        """Whether the message was about a question; then it is dealt with."""
        if type(message) is AdminReply and message.id >= _FIRST_ID:
            self._on_reply(peer, message)
            return True
        if type(message) is not AdminRequest or not message.action.startswith(_PREFIX):
            return False
        answerer = self._answerers.get(message.action.removeprefix(_PREFIX))
        if answerer is None or self._answering >= PEER_QUESTIONS_MAX:
            error = "the question is not known here" if answerer is None else "too many questions"
            self._node.transport.send(peer, AdminReply(message.id, message.boot, error))
        else:
            self._node.short_task("answer", self._answer(peer, message, answerer))
        return True

    def _on_reply(self, peer: str, message: AdminReply) -> None:
        asked, future = self._open.get(message.id, ("", None))
        # The id alone is not enough: answers to a former process of this node may still be under way.
        is_mine = asked == peer and message.boot == self._node.engine.boot
        if is_mine and future is not None and not future.done():
            future.set_result(None if message.error else message.payload)

    async def _answer(self, peer: str, message: AdminRequest, answerer: Answerer) -> None:
        self._answering += 1
        try:
            payload = await answerer(message.payload)
            error = f"the answer has {len(payload)} bytes" if len(payload) > PEER_ANSWER_BYTES_MAX else ""
        except Exception as err:
            # What one peer asks for must not stop the node: log and state have no part in an answer.
            log.error("question_not_answered", question=message.action, peer=peer, exc_info=err)
            payload, error = b"", "the question could not be answered"
        finally:
            self._answering -= 1
        reply = AdminReply(message.id, message.boot, error, payload=b"" if error else payload)
        self._node.transport.send(peer, reply)
