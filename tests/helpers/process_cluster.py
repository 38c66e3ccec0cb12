"""Real nodes as processes, for tests that kill and pause them."""

import json
import random
import signal
import urllib.error
import urllib.request
from pathlib import Path

from replcache.client import Client
from replcache.localcluster import LocalCluster, free_ports
from tests.helpers.wait import wait_until


class ProcessCluster:
    """LocalCluster plus what fault tests need: environments, pauses, metrics, the leader's name."""

    def __init__(self, directory: Path, rng: random.Random, nodes: int = 3) -> None:
        self.local = LocalCluster(directory, nodes, free_ports(nodes, rng))
        self.local.prepare()

    @property
    def names(self) -> tuple[str, ...]:
        return self.local.names

    @property
    def url(self) -> str:
        return self.local.url

    def client(self, timeout: str = "10s") -> Client:
        return Client(self.url, timeout=timeout)

    def start(self, *names: str, **environment: str) -> None:
        """Starts the named nodes (all by default) with these variables, also REPLCACHE_* ones."""
        self.local.start(names, environment)

    def kill(self, name: str) -> None:
        self.local.kill(name)

    def pause(self, name: str) -> None:
        self.local.kill(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self.local.kill(name, signal.SIGCONT)

    def stop(self) -> None:
        for name in self.names:
            self.resume(name)
        self.local.stop(grace_s=10.0)

    def is_running(self, name: str) -> bool:
        return self.local.pid(name) is not None

    def log(self, name: str) -> str:
        return self.local.layout(name).log.read_text(errors="replace")

    def metrics(self, name: str) -> dict[str, float]:
        """The samples of /metrics by full name with labels."""
        port = self.local.layout(name).http_address
        with urllib.request.urlopen(f"http://{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def readiness(self, name: str) -> dict[str, object]:
        """What /readyz says, also when it says no; {} when nobody answers."""
        address = self.local.layout(name).http_address
        try:
            with urllib.request.urlopen(f"http://{address}/readyz", timeout=1) as answer:
                return dict(json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            return dict(json.loads(error.read()))
        except OSError:
            return {}

    def is_ready(self, name: str) -> bool:
        return bool(self.readiness(name).get("ready"))

    def wait_ready(self, *names: str, timeout_s: float = 30.0) -> None:
        for name in names or self.names:
            wait_until(
                lambda name=name: self.is_ready(name),
                timeout_s,
                f"{name} is ready",
                lambda name=name: self.local.log_tail(name),
            )

    def leader(self, client: Client) -> str:
        """Name of the leader that a running node knows."""
        return str(wait_until(lambda: client.status().leader, 10, "a leader is known"))

    def dump(self) -> str:
        return json.dumps({name: self.local.log_tail(name) for name in self.names}, indent=1)
