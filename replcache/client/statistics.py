"""What a client counts."""


class Counters:
    """Plain numbers, written by the client's loop only; AsyncClient.stats() makes the public copy."""

    __slots__ = (
        "calls",
        "failures",
        "hits",
        "messages",
        "misses",
        "reconnects",
        "retries",
        "sessions_opened",
    )

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.calls = 0
        self.messages = 0
        self.retries = 0
        self.failures = 0
        self.reconnects = 0
        self.sessions_opened = 0
