"""The deployment files: their settings are accepted, and nodes run with exactly these.

No container daemon and no systemd is needed: what they would start is started here, with their environment,
only with other ports and folders.
"""

import configparser
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from replcache.config import load_config
from replcache.localcluster import free_ports
from tests.e2e.conftest import ROOT, Shell
from tests.helpers.wait import wait_until

COMPOSE = yaml.safe_load((ROOT / "deploy/docker/docker-compose.yml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text(encoding="utf-8")


def unit_file() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    parser.read(ROOT / "deploy/systemd/replcache.service")
    return parser


@pytest.fixture
def processes() -> Iterator[list["subprocess.Popen[bytes]"]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def serve(folder: Path, log: str, *flags: str, **environment: str) -> "subprocess.Popen[bytes]":
    shell = Shell(folder)
    with (folder / log).open("wb") as output:
        return subprocess.Popen(
            shell.command("serve", *flags),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**shell.environment, **environment},
        )


@pytest.mark.parametrize("name", ["n1", "n2", "n3"])
def test_compose_settings_are_accepted(name: str) -> None:
    service = COMPOSE["services"][name]
    environment = service["environment"]
    config = load_config(environment=environment).config
    assert config.name == name
    assert name in [member.name for member in config.members]
    mounted = {volume.split(":")[1] for volume in service["volumes"]}
    for path in (
        config.tls_cert,
        config.tls_key,
        config.peer_tls_cert,
        config.peer_tls_key,
        config.peer_tls_ca,
    ):
        assert str(path) in mounted
    assert "/certs/ca.key" not in mounted
    assert service["hostname"] == name


def test_three_nodes_run_with_the_settings_of_compose(
    tmp_path: Path, processes: list["subprocess.Popen[bytes]"]
) -> None:
    """TLS for clients, mutual TLS between nodes, certificates of `replcache certs`."""
    shell = Shell(tmp_path)
    names = ["n1", "n2", "n3"]
    nodes = [flag for name in names for flag in ("--node", f"{name}=localhost,127.0.0.1")]
    assert shell("certs", "certs", *nodes, "--client", "app").code == 0
    ports = free_ports(3, random.Random())
    members = ",".join(f"n{i + 1}=127.0.0.1:{ports.peer + i}/localhost:{ports.grpc + i}" for i in range(3))
    for i, name in enumerate(names):
        settings = {
            key: str(value).replace("/certs/", f"{tmp_path}/certs/")
            for key, value in COMPOSE["services"][name]["environment"].items()
        }
        settings |= {
            "REPLCACHE_GRPC_LISTEN": f"127.0.0.1:{ports.grpc + i}",
            "REPLCACHE_PEER_LISTEN": f"127.0.0.1:{ports.peer + i}",
            "REPLCACHE_HTTP_LISTEN": f"127.0.0.1:{ports.http + i}",
            "REPLCACHE_GRPC_ADVERTISE": f"localhost:{ports.grpc + i}",
            "REPLCACHE_PEER_ADVERTISE": f"127.0.0.1:{ports.peer + i}",
            "REPLCACHE_MEMBERS": members,
            "REPLCACHE_DATA_DIR": str(tmp_path / name),
        }
        processes.append(serve(tmp_path, f"{name}.log", **settings))
    url = ",".join(f"localhost:{ports.grpc + i}" for i in range(3))
    tls = ("-e", url, "--ca", "certs/ca.pem")
    wait_until(
        lambda: shell("status", *tls).code == 0,
        60,
        "a leader over TLS",
        lambda: "\n".join((tmp_path / f"{name}.log").read_text()[-1500:] for name in names),
    )
    assert shell("set", "over", "tls", *tls).code == 0
    assert shell("get", "over", *tls).text == "tls"
    plain = shell("get", "over", "-e", url, "--timeout", "1s")
    assert plain.code == 3
    assert shell("certs", "other", "--client", "app").code == 0
    assert shell("get", "over", "-e", url, "--ca", "other/ca.pem", "--timeout", "1s").code == 3


def test_container_has_a_user_and_a_stop_signal() -> None:
    instructions = [line.split(maxsplit=1) for line in DOCKERFILE.splitlines() if line and line[0].isupper()]
    assert ["USER", "10001:10001"] in instructions
    assert ["STOPSIGNAL", "SIGTERM"] in instructions
    assert ["ENTRYPOINT", '["replcache"]'] in instructions


def test_unit_starts_what_exists_and_is_told_when_it_is_ready(
    tmp_path: Path, processes: list["subprocess.Popen[bytes]"]
) -> None:
    service = unit_file()["Service"]
    assert service["Type"] == "notify"
    assert service["ExecStart"].split()[1:] == ["serve"]
    assert service["RestartPreventExitStatus"].split() == ["2", "7"]
    (tmp_path / "replcache.toml").write_text((ROOT / "deploy/replcache.toml").read_text(encoding="utf-8"))
    ports = free_ports(1, random.Random())
    environment = {
        "REPLCACHE_CONFIG": str(tmp_path / "replcache.toml"),
        "REPLCACHE_DATA_DIR": str(tmp_path / "data"),
        "REPLCACHE_GRPC_LISTEN": f"127.0.0.1:{ports.grpc}",
        "REPLCACHE_PEER_LISTEN": f"127.0.0.1:{ports.peer}",
        "REPLCACHE_HTTP_LISTEN": f"127.0.0.1:{ports.http}",
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        node = serve(tmp_path, "node.log", NOTIFY_SOCKET=str(tmp_path / "notify"), **environment)
        processes.append(node)
        assert manager.recv(100) == b"READY=1"
        health = [sys.executable, "-m", "replcache.cli.healthcheck"]
        wait_until(
            lambda: subprocess.run(health, env={**os.environ, **environment}, check=False).returncode == 0,
            20,
            "healthy",
        )
        shell = Shell(tmp_path, f"127.0.0.1:{ports.grpc}")
        assert shell("set", "k", "v").code == 0
        node.send_signal(signal.SIGTERM)
        assert manager.recv(100) == b"STOPPING=1"
        assert node.wait(timeout=30) == 0, (tmp_path / "node.log").read_text()
    assert subprocess.run(health, env={**os.environ, **environment}, check=False).returncode == 1


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_unit_files_are_understood_by_systemd(tmp_path: Path) -> None:
    for unit in (ROOT / "deploy/systemd").iterdir():
        # The program is not installed where the unit expects it: any that exists will do.
        text = unit.read_text(encoding="utf-8").replace("/opt/replcache/bin/replcache", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *sorted(map(str, tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if "replcache" in line]
    assert done.returncode == 0, done.stderr
    assert not complaints, complaints


def test_damaged_data_directory_is_exit_code_7(
    tmp_path: Path, processes: list["subprocess.Popen[bytes]"]
) -> None:
    ports = free_ports(1, random.Random())
    flags = [
        *("--data-dir", "data", "--grpc-listen", f"127.0.0.1:{ports.grpc}"),
        *("--peer-listen", f"127.0.0.1:{ports.peer}", "--http-listen", f"127.0.0.1:{ports.http}"),
    ]
    shell = Shell(tmp_path, f"127.0.0.1:{ports.grpc}")
    node = serve(tmp_path, "node.log", *flags)
    processes.append(node)
    wait_until(lambda: shell("set", "k", "v" * 1000).code == 0, 30, "the node serves")
    assert shell("set", "l", "w" * 1000).code == 0
    node.kill()
    node.wait()
    [segment] = [path for path in (tmp_path / "data").rglob("*") if b"v" * 1000 in _bytes(path)]
    data = bytearray(_bytes(segment))
    data[data.index(b"v" * 1000) + 500] ^= 1
    segment.write_bytes(data)
    again = serve(tmp_path, "again.log", *flags)
    processes.append(again)
    log = tmp_path / "again.log"
    assert again.wait(timeout=30) == 7, log.read_text()
    assert segment.name in log.read_text()


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
