"""The Transport that pysyncobj gets: always ready, without sockets. Messages leave through Engine.send."""

from typing import Any

from pysyncobj.transport import Transport


class LibraryTransport(Transport):  # type: ignore[misc]  # the library has no types
    """Opens nothing, so that none of the library's unauthenticated ports exists (hazards H33-H39)."""

    def __init__(self) -> None:
        super().__init__(None, None, [])

    def send(self, node: Any, message: Any) -> bool:
        raise AssertionError("the library's own messages are not used")

    def destroy(self) -> None:
        pass
