"""`replcache watch`, `verify` and `bench` against a running cluster."""

import json
from pathlib import Path

from replcache.localcluster import LocalCluster
from tests.e2e.conftest import Shell


def test_watch_prints_every_change_of_its_range(shell: Shell) -> None:
    shell("set", "w/old", "1")
    watch = shell.start("watch", "w/", "--start", "snapshot", "--for", "60s", "--json")
    assert watch.stdout is not None
    state: dict[str, str] = {}
    revisions = []
    try:
        # The snapshot makes it certain that nothing is missed, however late the watch begins.
        shell("set", "w/new", "2")
        shell("set", "other", "3")
        shell("del", "w/old")
        shell("set", "w/last", "4")
        for line in watch.stdout:
            event = json.loads(line)
            if event["kind"] in ("entry", "put"):
                state[event["key"]] = event["value"]
            elif event["kind"] == "delete":
                del state[event["key"]]
            if event["kind"] in ("put", "delete"):
                revisions.append(event["revision"])
            if state.get("w/last") == "4" and "w/old" not in state:
                break
    finally:
        watch.kill()
        watch.communicate()
    assert state == {"w/new": "2", "w/last": "4"}
    assert revisions == sorted(revisions)


def test_watch_ends_when_its_time_is_over(shell: Shell) -> None:
    assert shell("watch", "w/", "--for", "300ms").code == 0
    assert shell("watch", "w/", "--start", "soon").code == 2
    assert shell("watch", "w/", "--key", "w/a").code == 2


def test_watch_of_a_forgotten_revision_is_refused_or_complete(shell: Shell) -> None:
    """From the first revision on: this young cluster still keeps everything."""
    assert shell("set", "w/first", "1").code == 0
    seen = shell("watch", "--start", "1", "--limit", "1", "--for", "20s", "--json")
    assert seen.code == 0, seen.err
    assert json.loads(seen.text)["revision"] >= 1


def test_verify_finds_this_cluster_linearizable(shell: Shell, cluster: LocalCluster, tmp_path: Path) -> None:
    result = shell("verify", "--seconds", "1", "--workload", "register", "--seed", "5")
    assert result.code == 0, result.text + result.err
    assert "linearizable" in result.text
    history = tmp_path / "verify-histories" / "register.jsonl"
    assert shell("verify", "replay", str(history)).code == 0


def test_bench_measures_and_removes_what_it_wrote(shell: Shell) -> None:
    result = shell("bench", "--callers", "8", "--for", "300ms", "--json")
    assert result.code == 0, result.err
    figures = result.json()
    assert [figure["operation"] for figure in figures] == ["set", "get linearizable", "get one"]
    assert all(figure["per_second"] > 0 and figure["errors"] == 0 for figure in figures)
    assert shell("scan", "bench/", "--json").json()["entries"] == []
