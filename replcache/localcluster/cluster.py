"""LocalCluster: prepare, start, stop, kill and restart the nodes of one directory.

Every call may be repeated: starting what runs and stopping what does not are no errors. A file lock keeps two
`cluster up` of the same directory apart.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from replcache.localcluster import processes
from replcache.localcluster.free_ports import is_free
from replcache.localcluster.layout import (
    MARKER_FILE,
    NodeLayout,
    Ports,
    load_cluster,
    node_layouts,
    port_problems,
    save_cluster,
)
from replcache.localcluster.node_config import render

# A node hands over leadership and drains before it goes; this is well above its own drain limit.
STOP_GRACE_S = 15.0
LOG_TAIL_LINES = 15


class LocalClusterError(Exception):
    """The local cluster can't do what was asked; the message says what to do."""


class LocalCluster:
    """The nodes n1..nN of one directory.

    Args:
        directory: where configuration, data, logs and process files are.
        nodes: how many; None: as many as the directory has (3 when it is new).
        ports: first port of each kind; None: those of the directory (the defaults when it is new).
    Raises:
        LocalClusterError: the directory holds a cluster of another shape, or the ports collide.
    """

    def __init__(self, directory: Path, nodes: int | None = None, ports: Ports | None = None) -> None:
        self.directory = directory.absolute()
        try:
            existing = load_cluster(self.directory)
        except ValueError as error:
            raise LocalClusterError(str(error)) from error
        self.exists = existing is not None
        had_nodes, had_ports = existing or (3, Ports())
        self.nodes = had_nodes if nodes is None else nodes
        self.ports = had_ports if ports is None else ports
        if existing and (self.nodes, self.ports) != existing:
            raise LocalClusterError(
                f"{self.directory} holds a cluster of {had_nodes} nodes on {had_ports}, and its members know "
                f"each other by these addresses; use another --directory, or drop its data with "
                f"`replcache cluster down --wipe --directory {self.directory}`"
            )
        if not 1 <= self.nodes <= 9:
            raise LocalClusterError(f"--nodes is {self.nodes}; a local cluster has 1 to 9")
        if problems := port_problems(self.nodes, self.ports):
            raise LocalClusterError("; ".join(problems))
        self.layouts = node_layouts(self.directory, self.nodes, self.ports)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(layout.name for layout in self.layouts)

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(layout.grpc_address for layout in self.layouts)

    @property
    def url(self) -> str:
        """What clients take to reach all nodes."""
        return "replcache://" + ",".join(self.endpoints)

    def layout(self, name: str) -> NodeLayout:
        for layout in self.layouts:
            if layout.name == name:
                return layout
        raise LocalClusterError(f"there is no node {name!r}; the nodes are {', '.join(self.names)}")

    def prepare(self) -> None:
        """Makes the directory and writes the configuration files (anew: they are generated)."""
        self.directory.mkdir(parents=True, exist_ok=True)
        save_cluster(self.directory, self.nodes, self.ports)
        self.exists = True
        for layout in self.layouts:
            layout.folder.mkdir(exist_ok=True)
            layout.config.write_text(render(layout, self.layouts), encoding="utf-8")

    def start(
        self, names: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> tuple[str, ...]:
        """Starts the named nodes (all by default) that do not run; returns those that it started.

        Args:
            environment: variables for these nodes only, also REPLCACHE_* ones.
        Raises:
            LocalClusterError: somebody else listens on a port of one of them; nothing is started then.
        """
        with self._exclusive():
            missing = [self.layout(name) for name in names or self.names if self.pid(name) is None]
            # Otherwise the new node would fail while the other program answers in its place.
            taken = [
                f"{address} ({layout.name})"
                for layout in missing
                for address in (layout.grpc_address, layout.peer_address, layout.http_address)
                if not is_free(int(address.rpartition(":")[2]))
            ]
            if taken:
                raise LocalClusterError(f"in use by another program: {', '.join(taken)}; choose other ports")
            for layout in missing:
                self._spawn(layout, environment or {})
            return tuple(layout.name for layout in missing)

    def stop(
        self,
        names: Sequence[str] = (),
        grace_s: float = STOP_GRACE_S,
        say: Callable[[str], None] = lambda text: None,
    ) -> tuple[str, ...]:
        """TERM, then KILL after grace_s; returns the names of those that ran."""
        # Also one that has just been started and holds no lock yet, by a call that ended before it said so.
        running = {
            name: identity
            for name in names or self.names
            if (identity := self._identity(name) or self._find(name))
        }
        processes.stop(list(running.values()), grace_s, say)
        for name in running:
            self.layout(name).process.unlink(missing_ok=True)
        return tuple(running)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> bool:
        """Sends a signal to one node; after SIGKILL returns when it is gone. False: it did not run."""
        identity = self._identity(name)
        if identity is None or not processes.send(identity, number):
            return False
        if number == signal.SIGKILL:
            processes.wait_gone([identity], 10.0)
        return True

    def pid(self, name: str) -> int | None:
        identity = self._identity(name)
        return identity.pid if identity else None

    def running(self) -> dict[str, int]:
        return {name: pid for name in self.names if (pid := self.pid(name)) is not None}

    def was_stopped(self, name: str) -> bool:
        """Whether a node that does not run was stopped on purpose (or never started); else it crashed."""
        return processes.load(self.layout(name).process) is None

    def log_tail(self, name: str, lines: int = LOG_TAIL_LINES) -> str:
        try:
            with self.layout(name).log.open("rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - 16_384))
                text = log.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def wipe(self) -> None:
        """Removes the directory of a stopped cluster."""
        if running := self.running():
            raise LocalClusterError(f"still running: {', '.join(running)}")
        if used := [layout.name for layout in self.layouts if _is_in_use(layout)]:
            raise LocalClusterError(f"a process that is not known here uses the data of {', '.join(used)}")
        if (self.directory / MARKER_FILE).exists():
            shutil.rmtree(self.directory)

    def _identity(self, name: str) -> processes.Identity | None:
        layout = self.layout(name)
        identity = processes.load(layout.process)
        if identity and processes.is_alive(identity):
            return identity
        # The file may be damaged, gone, or older than the process: whoever has the data runs.
        return self._find(name) if _is_in_use(layout) else None

    def _find(self, name: str) -> processes.Identity | None:
        return processes.find(_serve_arguments(self.layout(name)))

    def _spawn(self, layout: NodeLayout, extra: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "replcache.cli.main", *_serve_arguments(layout)]
        # Variables of the caller's shell must not leak into nodes: REPLCACHE_* outranks their files.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("REPLCACHE_")}
        # The package may be a checkout that only the caller's own import path knows.
        package_home = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(
            [package_home, *filter(None, [environment.get("PYTHONPATH")])]
        )
        environment |= extra
        identity = processes.spawn_detached(command, layout.log, environment, marker=command[-1])
        processes.save(identity, layout.process)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _serve_arguments(layout: NodeLayout) -> list[str]:
    """How the command line of its process ends; the last one is its marker."""
    return ["serve", "--config", str(layout.config)]


def _is_in_use(layout: NodeLayout) -> bool:
    """Whether a process holds the lock that a node keeps on its data directory."""
    try:
        with layout.data_lock.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False
