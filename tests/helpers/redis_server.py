"""A real redis-server for comparisons, when one is installed."""

import shutil
import socket
import subprocess
import tempfile
from typing import Any

from tests.helpers.wait import wait_until

MISSING = "" if shutil.which("redis-server") else "redis-server is not installed: nothing to compare with"
try:
    import redis
except ImportError:
    MISSING = MISSING or "redis-py is not installed: nothing to compare with"


class RedisServer:
    """On a unix socket in a directory of its own; nothing is written to disk."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.path = f"{self._directory.name}/redis.sock"
        self._process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.path, "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
            cwd=self._directory.name,
        )
        wait_until(self._accepts, 10, "redis-server accepts connections")

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.path) == 0

    def client(self, **settings: Any) -> Any:
        return redis.Redis(unix_socket_path=self.path, **settings)

    def signal(self, number: int) -> None:
        """SIGSTOP freezes it, SIGCONT lets it go on."""
        self._process.send_signal(number)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._directory.cleanup()
