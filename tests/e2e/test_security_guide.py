"""docs/security.md: its files, commands and code work as written, in their order, on other ports."""

import os
import random
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from replcache.config import ServerConfig, load_config
from replcache.localcluster import free_ports
from tests.e2e.conftest import ROOT
from tests.helpers.wait import scaled

GUIDE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.S | re.M)


def script(ports: dict[str, str]) -> str:
    """All blocks as one bash script: files are written, commands run, code is given to python."""
    parts = [
        "set -euo pipefail",
        "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT",
    ]
    for number, (language, text) in enumerate(BLOCK.findall(GUIDE)):
        for written, free in ports.items():
            text = text.replace(written, free)
        if language == "toml":
            name = re.match(r"# ([\w.]+)\n", text)
            assert name is not None, text
            parts.append(f"cat > {name[1]} <<'END'\n{text}END")
        elif language == "sh":
            parts.append(text.replace(" &\n", " 2> node.log &\n"))
        elif language == "python":
            parts.append(f"cat > code{number}.py <<'END'\n{text}END\n\"{sys.executable}\" code{number}.py")
    return "\n".join(parts)


def test_the_guide_works_from_top_to_bottom(tmp_path: Path) -> None:
    found = free_ports(1, random.Random())
    ports = {"7401": str(found.grpc), "7411": str(found.peer), "7421": str(found.http)}
    # A program of its own: a function in the background would be a shell between us and the node.
    command = tmp_path / "bin" / "replcache"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m replcache.cli.main "$@"\n')
    command.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REPLCACHE_")}
    done = subprocess.run(
        ["bash", "-c", script(ports)],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT), "PATH": f"{command.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=scaled(100),
        check=False,
    )
    log = (tmp_path / "node.log").read_text() if (tmp_path / "node.log").exists() else ""
    assert done.returncode == 0, done.stdout + done.stderr + log
    assert "no right to write b'price:7'" in done.stdout
    assert "revoked" in done.stdout
    token = (tmp_path / "checkout.token").read_text().strip()
    assert re.fullmatch(r"[a-z2-7]{12}\.[\w-]{43}", token)
    assert (
        token.partition(".")[2] not in done.stdout + done.stderr + log + (tmp_path / "auth.toml").read_text()
    )


def test_the_node_of_the_guide_is_a_valid_member_of_three(tmp_path: Path) -> None:
    text = next(text for language, text in BLOCK.findall(GUIDE) if text.startswith("# n1.toml"))
    (tmp_path / "n1.toml").write_text(text)
    members = ",".join(f"n{n}=10.0.0.{n}:7411/10.0.0.{n}:7401" for n in (1, 2, 3))
    flags = {"members": members, "peer_listen": "10.0.0.1:7411", "grpc_listen": "10.0.0.1:7401"}
    assert len(load_config(tmp_path / "n1.toml", {}, flags).config.members) == 3


@pytest.mark.parametrize(
    "name", re.findall(r"`(limit_\w+|connections|streams_per_connection|\w+_open)\b", GUIDE)
)
def test_named_settings_exist(name: str) -> None:
    assert name in ServerConfig.model_fields


def test_auth_file_of_the_guide_is_toml() -> None:
    text = next(text for language, text in BLOCK.findall(GUIDE) if text.startswith("# auth.toml"))
    assert set(tomllib.loads(text)) == {"roles", "users"}
