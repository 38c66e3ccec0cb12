"""Runs the programs of all languages against live clusters (`make interop`).

Each language that this machine has tools for is built from the .proto files, and runs its scenario on a plain
cluster and on one with TLS and tokens; the leader is killed while they watch. The others are named with what
they lack. Usage: python -m tests.interop.run [--ci] [--strict] [LANGUAGE...]
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers.process_cluster import ProcessCluster
from tests.interop import transcript, values
from tests.interop.clusters import Access, running_cluster, start
from tests.interop.languages import LANGUAGES, ROOT, BuildFailed, Language, build_environment

WORK = ROOT / ".interop"


@dataclass
class Row:
    """What became of one language; times in seconds, None: not done."""

    language: Language
    missing: list[str] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)
    failure: str = ""

    def attempt(self, what: str, action: Callable[[], object]) -> None:
        """Does it unless something failed before; says what failed."""
        if self.missing or self.failure:
            return
        begin = time.monotonic()
        try:
            action()
        except (BuildFailed, transcript.WrongTranscript) as error:
            self.failure = what
            print(f"\n{self.language.name}: {what} failed: {error}", flush=True)
            return
        self.times[what] = time.monotonic() - begin
        print(f"{self.language.name}: {what} {self.times[what]:.1f} s", flush=True)

    def text(self) -> str:
        if self.missing:
            return f"{self.language.name:8} skipped: needs {', '.join(self.missing)}"
        times = "".join(f"{self.times[key]:9.1f}" if key in self.times else f"{'-':>9}" for key in STEPS)
        return f"{self.language.name:8}{times}  {'FAILED: ' + self.failure if self.failure else 'ok'}"


STEPS = ("build", "first", "plain", "values", "tls")


def run_scenario(row: Row, cluster: ProcessCluster, step: str, access: Access) -> None:
    """The scenario in one language; the node that was killed runs again afterwards."""
    language = row.language
    arguments = [",".join(cluster.local.endpoints), f"interop/{language.name}/"]
    if access.ca is not None:
        arguments.append(str(access.ca))
    skipped = [] if access.token else transcript.GUARDED
    expected = [line for line in transcript.SCENARIO if line not in skipped]
    command = [*language.scenario, *arguments]
    row.attempt(step, lambda: transcript.run(command, language.folder, expected, cluster.kill, access.token))
    start(cluster, access)


def build(row: Row, environment: dict[str, str]) -> None:
    log = WORK / f"{row.language.name}.log"
    row.attempt("build", lambda: row.language.build(log, environment))


def run_first(language: Language, address: str) -> None:
    transcript.run([*language.first, address], language.folder, transcript.FIRST)


def run(languages: Sequence[Language], directory: Path) -> list[Row]:
    rows = [Row(language, language.missing()) for language in languages]
    environment = build_environment(WORK)
    # They mostly wait for downloads and for each other's compilers.
    with ThreadPoolExecutor(2) as builders:
        list(builders.map(lambda row: build(row, environment), rows))
    rng = random.Random()
    with running_cluster(directory / "plain", rng) as (cluster, access), cluster.client() as client:
        for row in rows:
            client.delete("greeting")
            row.attempt("first", lambda row=row: run_first(row.language, cluster.local.endpoints[0]))
            run_scenario(row, cluster, "plain", access)
            if row.language.name == "node":
                row.attempt("values", lambda row=row: values.check(row.language.folder, cluster))
    with running_cluster(directory / "tls", rng, secure=True) as (cluster, access):
        for row in rows:
            run_scenario(row, cluster, "tls", access)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [language.name for language in LANGUAGES]
    parser.add_argument("language", nargs="*", choices=[[], *names], help="default: all")
    parser.add_argument("--ci", action="store_true", help="only those that are quick to build from nothing")
    parser.add_argument("--strict", action="store_true", help="a language that is skipped is a failure")
    options = parser.parse_args()
    chosen = [
        language
        for language in LANGUAGES
        if language.name in (options.language or names) and (language.in_ci or not options.ci)
    ]
    WORK.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="replcache-interop-"))
    begin = time.monotonic()
    rows = run(chosen, directory)
    failed = [row for row in rows if row.failure or (options.strict and row.missing)]
    if not failed:
        shutil.rmtree(directory)
    print(f"\n{'':8}" + "".join(f"{step:>9}" for step in STEPS) + "  (seconds)")
    for row in rows:
        print(row.text())
    print(
        f"total {time.monotonic() - begin:.0f} s" + (f"; nodes' files are in {directory}" if failed else "")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
