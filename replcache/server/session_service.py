"""The Session service: sessions make writes execute exactly once (Raft dissertation 6.3)."""

import random

from replcache import constants
from replcache.pb.v1 import session_pb2
from replcache.server import convert, validate
from replcache.server.backend import Backend
from replcache.server.deadlines import Deadline
from replcache.server.interceptors import Method
from replcache.statemachine.commands import SessionClose, SessionKeep, SessionOpen
from replcache.statemachine.results import SessionResult

NAME = "replcache.v1.Session"


class SessionService:
    """Where users have different rights, the id of a session is drawn, and so known to its owner only."""

    def __init__(self, backend: Backend, default_ttl_ms: int, rng: random.Random | None) -> None:
        """rng: of the operating system; None: everybody may do the same, and ids count up."""
        self._backend = backend
        self._default_ttl_ms = default_ttl_ms
        self._rng = rng

    def methods(self) -> list[Method]:
        return [
            Method("Open", session_pb2.OpenSessionRequest, self.open, writes=True),
            Method("KeepAlive", session_pb2.KeepSessionRequest, self.keep_alive, writes=True),
            Method("Close", session_pb2.CloseSessionRequest, self.close, writes=True),
        ]

    async def open(
        self, request: session_pb2.OpenSessionRequest, deadline: Deadline
    ) -> session_pb2.OpenSessionResponse:
        """A retry after an unknown outcome opens another session; the first one expires unused."""
        ttl_ms = self._default_ttl_ms
        if request.HasField("ttl"):
            ttl_ms = validate.duration_ms(
                request.ttl, "ttl", constants.SESSION_TTL_MS_MIN, constants.SESSION_TTL_MS_MAX
            )
        secret_id = 0
        if self._rng is not None:
            secret_id = constants.SECRET_SESSION_IDS_FROM + self._rng.randrange(
                constants.SECRET_SESSION_IDS_FROM
            )
        result = await self._backend.execute_op(SessionOpen(ttl_ms, secret_id), deadline)
        assert type(result) is SessionResult
        response = session_pb2.OpenSessionResponse(
            header=self._backend.header(result.revision), session_id=result.session_id
        )
        convert.set_duration_ms(response.ttl, result.ttl_ms)
        return response

    async def keep_alive(
        self, request: session_pb2.KeepSessionRequest, deadline: Deadline
    ) -> session_pb2.KeepSessionResponse:
        session_id = validate.not_zero(request.session_id, "session_id")
        result = await self._backend.execute_op(SessionKeep(session_id), deadline)
        assert type(result) is SessionResult
        return session_pb2.KeepSessionResponse(
            header=self._backend.header(result.revision), alive=result.alive
        )

    async def close(
        self, request: session_pb2.CloseSessionRequest, deadline: Deadline
    ) -> session_pb2.CloseSessionResponse:
        session_id = validate.not_zero(request.session_id, "session_id")
        result = await self._backend.execute_op(SessionClose(session_id), deadline)
        assert type(result) is SessionResult
        return session_pb2.CloseSessionResponse(header=self._backend.header(result.revision))
