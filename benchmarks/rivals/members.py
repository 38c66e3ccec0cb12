"""Member processes of one cluster under measurement: started, killed and started again one by one, by pid."""

import subprocess
from collections.abc import Callable
from pathlib import Path

STOP_GRACE_S = 10.0


class Members:
    """Processes by name, with their output in files of `directory`.

    Args:
        command: the command line of a member; called at each start.
    """

    def __init__(self, directory: Path, command: Callable[[str], list[str]]) -> None:
        self._directory = directory
        self._command = command
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        with (self._directory / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                self._command(name), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def kill(self, name: str) -> None:
        """kill -9, and waits until the process is gone."""
        process = self._running.pop(name)
        process.kill()
        process.wait(STOP_GRACE_S)

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_GRACE_S)
        self._running.clear()
