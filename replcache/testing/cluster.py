"""Cluster: real nodes on free ports in a temporary directory, which a test may kill, pause and cut off."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from replcache.client.aio import AsyncClient
from replcache.client.blocking import Client
from replcache.localcluster import LocalCluster, LocalClusterError, free_ports

START_TIMEOUT_S = 60.0
STOP_GRACE_S = 10.0
_POLL_S = 0.02
_HTTP_TIMEOUT_S = 2.0
# The least key: all others come after it.
_FIRST_KEY = b"\x00"
# Ports that were free may be taken before the nodes have them.
_START_TRIES = 3


class ClusterError(Exception):
    """The cluster did not come to what was asked; the message has the ends of the nodes' logs."""


class Cluster:
    """Nodes n1, n2, ... as processes. Use it in `with`, or call start() and stop().

    Stopping kills everything that is left and removes the directory, whatever happened before. The same
    happens when the process that started it is killed.
    """

    def __init__(
        self,
        n: int = 3,
        *,
        directory: Path | str | None = None,
        settings: Mapping[str, object] | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
        rng: random.Random | None = None,
    ) -> None:
        """
        Args:
            n: nodes, 1 to 9.
            directory: kept after stop(); None: a temporary one, removed.
            settings: of the nodes, by name (docs/configuration.md), such as {"session_ttl_s": 5}.
            start_timeout_s: for all nodes to become ready.
            rng: draws the ports.
        """
        self._n = n
        self._directory = None if directory is None else Path(directory)
        self._start_timeout_s = start_timeout_s
        self._rng = rng if rng is not None else random.Random()
        self._environment = {"REPLCACHE_FAULT_INJECTION": "true"}
        for name, value in (settings or {}).items():
            text = value if isinstance(value, str) else json.dumps(value)
            self._environment[f"REPLCACHE_{name.upper()}"] = text
        self._temporary: Path | None = None
        self._local: LocalCluster | None = None
        self._reaper: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []
        self._cut: set[str] = set()
        # Of requests for faults: a paused node sees them late, and all at once.
        self._order = 0

    # --- life ---

    def start(self) -> Self:
        """Starts all nodes and waits until each is ready to serve.

        Raises:
            ClusterError: not within start_timeout_s.
        """
        if self._local is not None:
            raise ClusterError("the cluster runs already")
        for tries_left in reversed(range(_START_TRIES)):
            try:
                self._start_once()
            except LocalClusterError as err:
                self._discard()
                if not tries_left:
                    raise ClusterError(str(err)) from err
                continue
            except BaseException:
                self._discard()
                raise
            return self
        return self

    def _start_once(self) -> None:
        directory = self._directory
        if directory is None:
            directory = self._temporary = Path(tempfile.mkdtemp(prefix="replcache-test-"))
        # Made once, a directory keeps its ports: the members know each other by them.
        known = (directory / "cluster.json").exists()
        ports = None if known else free_ports(self._n, self._rng)
        self._local = LocalCluster(directory, None if known else self._n, ports)
        self._local.prepare()
        self._start_reaper(directory)
        self._local.start((), self._environment)
        self.wait_ready()

    def _start_reaper(self, directory: Path) -> None:
        """See reaper.py; its own session, so that a Ctrl-C is not meant for it."""
        home = str(Path(__file__).resolve().parents[2])
        paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._reaper = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "replcache.testing.reaper",
                str(directory.absolute()),
                "kept" if self._temporary is None else "temporary",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,
        )

    def stop(self) -> None:
        """Stops the nodes and closes the clients that client() made. May be called twice."""
        self.close_clients()
        self._discard()

    def close_clients(self) -> None:
        """Of those that client() made."""
        while self._clients:
            self._clients.pop().close()

    def _discard(self) -> None:
        local, self._local = self._local, None
        if local is not None:
            for name in local.names:
                local.kill(name, signal.SIGCONT)
            # No farewell: what a test needs of it, it has asked for.
            for name in local.names:
                local.kill(name)
            local.stop(grace_s=STOP_GRACE_S)
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        reaper, self._reaper = self._reaper, None
        if reaper is not None:
            # Nothing is left for it to do; it ends when it has seen that.
            assert reaper.stdin is not None
            reaper.stdin.close()
            reaper.wait(STOP_GRACE_S)
        self._cut.clear()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- using it ---

    @property
    def names(self) -> tuple[str, ...]:
        return self._running().names

    @property
    def url(self) -> str:
        """For clients of any kind; the addresses of all nodes."""
        return self._running().url

    @property
    def addresses(self) -> dict[str, str]:
        """Name -> host:port for clients."""
        return {layout.name: layout.grpc_address for layout in self._running().layouts}

    def client(self, **settings: Any) -> Client:
        """A blocking client of its own; stop() closes it. Settings are those of Client."""
        client = Client(self.url, **{"timeout": "10s", **settings})
        self._clients.append(client)
        return client

    def async_client(self, **settings: Any) -> AsyncClient:
        """An asyncio client, which the caller closes: `async with cluster.async_client() as cache:`."""
        return AsyncClient(self.url, **{"timeout": "10s", **settings})

    def leader(self, timeout_s: float = 10.0) -> str:
        """Name of the node that leads now, as a majority of the nodes that can be reached sees it.

        Raises:
            ClusterError: none within timeout_s.
        """
        return str(self._until(self._leader_now, timeout_s, "no leader"))

    def followers(self) -> tuple[str, ...]:
        """The others that run."""
        leader = self.leader()
        return tuple(name for name in self._running().running() if name != leader)

    # --- breaking it ---

    def kill(self, name: str) -> None:
        """kill -9; returns when the process is gone."""
        if not self._running().kill(name):
            raise ClusterError(f"{name} does not run")

    def stop_node(self, name: str) -> None:
        """Ends one node in an orderly way (SIGTERM)."""
        self._running().stop((name,), STOP_GRACE_S)

    def restart(self, name: str, timeout_s: float = 30.0) -> None:
        """Starts a node that was killed or stopped, and waits until it is ready."""
        self._running().start((name,), self._environment)
        self.wait_ready(name, timeout_s=timeout_s)

    def pause(self, name: str) -> None:
        """Freezes the process (SIGSTOP): connections stay open and nothing is answered."""
        self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self._signal(name, signal.SIGCONT)

    def partition(self, *names: str) -> None:
        """Cuts these nodes off from the others, in both directions; clients still reach all. heal() ends it.

        Raises:
            ClusterError: a node does not answer (killed, paused).
        """
        others = [name for name in self.names if name not in names]
        for name in names:
            self._running().layout(name)
            # Before it is: a node that does not answer now may do it later, and then heal() has to undo it.
            self._cut.add(name)
            self._block(name, others)

    def heal(self) -> None:
        """Undoes partition()."""
        for name in sorted(self._cut):
            if self._running().pid(name) is not None:
                self._block(name, [])
        self._cut.clear()

    def make_whole(self) -> None:
        """Starts, resumes and connects whatever a test has broken, and waits until all is ready."""
        local = self._running()
        for name in local.running():
            local.kill(name, signal.SIGCONT)
        self.heal()
        local.start((), self._environment)
        self.wait_ready()

    def clear(self) -> None:
        """Deletes every key, also the parts of large values, which a scan does not show."""
        with Client(self.url, timeout="10s") as client:
            client.delete_range(_FIRST_KEY)

    # --- looking at it ---

    def is_running(self, name: str) -> bool:
        return self._running().pid(name) is not None

    def log(self, name: str) -> str:
        """What the node has printed last."""
        return self._running().log_tail(name, 200)

    def wait_ready(self, *names: str, timeout_s: float | None = None) -> None:
        """Until these nodes (all by default) know a leader and serve.

        Raises:
            ClusterError: not within timeout_s (default: start_timeout_s).
        """
        limit_s = self._start_timeout_s if timeout_s is None else timeout_s
        for name in names or self.names:
            self._until(partial(self._is_ready, name), limit_s, f"{name} is not ready")

    def _running(self) -> LocalCluster:
        if self._local is None:
            raise ClusterError("the cluster does not run: use it in `with`, or call start()")
        return self._local

    def _signal(self, name: str, number: signal.Signals) -> None:
        if not self._running().kill(name, number):
            raise ClusterError(f"{name} does not run")

    def _is_cut_off(self, name: str) -> bool:
        """By partition(), with too few others to lead: what it and its followers of before say is over."""
        side = sum((other in self._cut) == (name in self._cut) for other in self.names)
        return side * 2 <= len(self.names)

    def _is_ready(self, name: str) -> bool:
        return bool(self._readiness(name).get("ready"))

    def _leader_now(self) -> str | None:
        seen = [str(self._readiness(name).get("leader", "")) for name in self._running().running()]
        votes = {leader: seen.count(leader) for leader in seen if leader and not self._is_cut_off(leader)}
        for leader, count in votes.items():
            if count * 2 > len(self.names) and self._readiness(leader).get("role") == "leader":
                return leader
        return None

    def _readiness(self, name: str) -> dict[str, Any]:
        """What /readyz says, also when it says no; {} when nobody answers."""
        try:
            with urllib.request.urlopen(self._url(name, "readyz"), timeout=_HTTP_TIMEOUT_S) as answer:
                return dict(json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            return dict(json.loads(error.read()))
        except OSError:
            return {}

    def _block(self, name: str, peers: list[str]) -> None:
        self._order += 1
        body = json.dumps({"block": [[peer, "both"] for peer in peers], "order": self._order}).encode()
        request = urllib.request.Request(self._url(name, "fault"), body, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=_HTTP_TIMEOUT_S):
                return
        except OSError as err:
            raise ClusterError(f"{name} does not answer: {err}") from err

    def _url(self, name: str, page: str) -> str:
        return f"http://{self._running().layout(name).http_address}/{page}"

    def _until(self, condition: Callable[[], object], timeout_s: float, what: str) -> object:
        end = time.monotonic() + timeout_s
        while not (value := condition()):
            if time.monotonic() > end:
                local = self._running()
                logs = "\n".join(f"--- {name}\n{local.log_tail(name)}" for name in local.names)
                raise ClusterError(f"within {timeout_s:g} s: {what}\n{logs}")
            time.sleep(_POLL_S)
        return value
