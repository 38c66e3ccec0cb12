"""Every code block of the documents is executed, or says why it is not. New pages are found by themselves.

python    in one process for all pages, against a live cluster of three nodes; names live on within a page
sh        `replcache` commands likewise; `make` targets by a dry run; anything else by bash
toml, json, yaml    parsed
others    the languages of tests/interop, executed there

Hidden comments before a block are described in tests/helpers/doc_blocks.py.
"""

import json
import os
import re
import select
import shlex
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from replcache.localcluster import LocalCluster
from tests.e2e.conftest import ROOT
from tests.helpers.doc_blocks import Block, blocks_of, unfenced_commands
from tests.helpers.wait import scaled

PATTERNS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/*.md", "deploy/**/*.md", "tests/README.md")
PAGES = {
    path.relative_to(ROOT).as_posix(): blocks_of(path, path.relative_to(ROOT).as_posix())
    for pattern in PATTERNS
    for path in sorted(ROOT.glob(pattern))
}
BLOCKS = [block for blocks in PAGES.values() for block in blocks]
PARSED = {"toml": tomllib.loads, "json": json.loads, "yaml": yaml.safe_load}
# What no program reads: output, formulas, pictures of files.
PROSE = {"text", "diff"}
# Executed by `make interop`, from files that docs/clients.md shows.
ELSEWHERE = {"go", "java", "js", "javascript", "rust", "cpp", "proto"}
BLOCK_TIMEOUT_S = 100.0
# Pages whose examples belong together, on nodes of their own; the test runs them all.
OWN_TESTS = {"docs/security.md": "tests/e2e/test_security_guide.py"}
# Names that begin like a metric's are of metrics on these pages.
OF_METRICS = ("docs/operations.md", "docs/performance.md", "docs/tuning.md", "deploy/RUNBOOK.md")
# Ports of `make cluster`, which the documents name.
PORTS = {"grpc": 7401, "peer": 7411, "http": 7421}


class Examples:
    """Runs blocks; the process is started again when an example hangs or ends it."""

    def __init__(self, cluster: LocalCluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("REPLCACHE_")
        }
        shims = folder / "bin"
        shims.mkdir()
        for name, call in {"replcache": "-m replcache.cli.main", "python": ""}.items():
            shim = shims / name
            shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {call} "$@"\n')
            shim.chmod(0o755)
        self.environment |= {
            "PYTHONPATH": str(ROOT),
            "REPLCACHE_URL": cluster.url,
            "PATH": f"{shims}{os.pathsep}{self.environment['PATH']}",
        }
        (folder / "examples").symlink_to(ROOT / "examples")
        self.worker: subprocess.Popen[str] | None = None

    def local(self, text: str) -> str:
        """With the addresses of this cluster."""
        for kind, default in PORTS.items():
            for number in range(3):
                port = getattr(self.cluster.ports, kind) + number
                text = text.replace(f"127.0.0.1:{default + number}", f"127.0.0.1:{port}")
        return text

    def ask(self, kind: str, text: str = "", name: str = "") -> str:
        if self.worker is None:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", "tests.helpers.doc_worker", self.cluster.url],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        worker = self.worker
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps({"kind": kind, "text": text, "name": name}) + "\n")
        worker.stdin.flush()
        ready, _, _ = select.select([worker.stdout], [], [], scaled(BLOCK_TIMEOUT_S))
        answer = worker.stdout.readline() if ready else ""
        if not answer:
            self.close()
            return f"no answer within {scaled(BLOCK_TIMEOUT_S)} s, or the process ended"
        error: str = json.loads(answer)["error"]
        return error

    def shell(self, text: str) -> str:
        text = text.replace(".venv/bin/", "")
        lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
        problems = [self.make(line) for line in lines if line.startswith("make ")]
        rest = [line for line in lines if not line.startswith("make ")]
        plain = [
            line
            for line in rest
            if line.startswith("replcache ") and not set(line.partition(" #")[0]) & set("|<>$;&`\\")
        ]
        if rest and plain == rest:
            problems.append(self.ask("replcache", "\n".join(rest)))
        elif rest:
            done = subprocess.run(
                ["bash", "-eu", "-o", "pipefail", "-c", text],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=scaled(BLOCK_TIMEOUT_S),
                check=False,
            )
            problems.append("" if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr}")
        return "\n".join(filter(None, problems))

    def make(self, line: str) -> str:
        arguments = shlex.split(line, comments=True)[1:]
        done = subprocess.run(
            ["make", "--dry-run", f"PY={sys.executable}", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return "" if done.returncode == 0 else f"`{line}`: {done.stderr}"

    def run(self, block: Block) -> str:
        """What is wrong with it; "" when nothing is."""
        if block.before and (error := self.ask("python", self.local(block.before), f"{block.place} before")):
            return error
        text = self.local(block.text)
        if block.language == "python":
            return self.ask("python", text, block.place)
        if block.language == "sh":
            return self.shell(text)
        if block.language in PARSED:
            PARSED[block.language](text)
        return ""

    def close(self) -> None:
        if self.worker is not None:
            self.worker.kill()
            self.worker.communicate()
            self.worker = None


@pytest.fixture(scope="module")
def examples(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examples]:
    made = Examples(cluster, tmp_path_factory.mktemp("examples"))
    try:
        yield made
    finally:
        made.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", [name for name, blocks in PAGES.items() if blocks and name not in OWN_TESTS])
def test_examples_work(page: str, examples: Examples) -> None:
    problems = [examples.ask("new page")]
    for block in PAGES[page]:
        if not block.reason and not block.file and (problem := examples.run(block)):
            problems.append(f"{block.place} ({block.language})\n{problem}")
    problems = [problem for problem in problems if problem]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(("page", "test"), OWN_TESTS.items())
def test_pages_with_a_test_of_their_own_have_it(page: str, test: str) -> None:
    assert page in (ROOT / test).read_text(encoding="utf-8")


def test_every_block_names_a_language_that_is_run() -> None:
    """`text` for what is no code."""
    known = {"python", "sh", *PARSED, *PROSE, *ELSEWHERE}
    unknown = [
        f"{block.place}: {block.language!r}"
        for block in BLOCKS
        if block.language not in known and not block.file
    ]
    assert not unknown, unknown


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.file], ids=lambda block: block.place)
def test_blocks_that_show_a_file_are_that_file(block: Block) -> None:
    assert block.text.strip() == (ROOT / block.file).read_text(encoding="utf-8").strip()


def test_commands_stand_in_blocks_with_a_language() -> None:
    loose = [f"{page}:{number}" for page in PAGES for number in unfenced_commands(ROOT / page)]
    assert not loose, loose


def test_blocks_that_are_not_run_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    """Lists them (pytest -s); most blocks of code are run."""
    left_out = [block for block in BLOCKS if block.reason]
    with capsys.disabled():
        for block in left_out:
            print(f"\n  not run: {block.place} ({block.language}): {block.reason}", end="")
    assert all(len(block.reason) > 5 for block in left_out)
    code = [block for block in BLOCKS if block.language in ("python", "sh") and not block.file]
    assert len([block for block in code if not block.reason]) > len(code) / 2


def test_metrics_that_documents_name_are_exported(cluster: LocalCluster) -> None:
    named: dict[str, str] = {}
    for page in OF_METRICS:
        for quoted in re.findall(r"`[^`\n]+`", (ROOT / page).read_text(encoding="utf-8")):
            named |= dict.fromkeys(re.findall(r"\breplcache_[a-z_]+\b", quoted), page)
    with urllib.request.urlopen(f"http://127.0.0.1:{cluster.ports.http}/metrics", timeout=20) as answer:
        exported = set(re.findall(r"^# TYPE (\w+)", answer.read().decode(), flags=re.M))
    missing = {name: page for name, page in named.items() if name not in exported}
    assert not missing, missing
    assert len(named) >= 10


def test_a_wrong_example_is_noticed(examples: Examples) -> None:
    """This test can fail: broken examples of each kind are reported."""

    def wrong(language: str, text: str) -> str:
        return examples.run(Block("page.md", 1, language, text, "", ""))

    assert "NotFound" in wrong("python", 'cache.update("there is no such key", 1)')
    assert "NameError" in wrong("python", "await nothing()")
    assert "exit code 1" in wrong("sh", "replcache get there-is-no-such-key")
    assert "exit code 2" in wrong("sh", "replcache frobnicate")
    assert "exit code 3" in wrong("sh", "(exit 3) | cat")
    assert "No rule" in wrong("sh", "make frobnicate")
    with pytest.raises(tomllib.TOMLDecodeError):
        wrong("toml", "a = = 1")
