"""Every workload of `replcache verify` against a running cluster, through the real client and stubs."""

import json
from pathlib import Path

import pytest

from replcache.verify.workloads import WORKLOADS
from tests.e2e.conftest import Shell


@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_verify_workload_on_a_healthy_cluster_passes_and_cleans_up(
    workload: str, shell: Shell, tmp_path: Path
) -> None:
    result = shell("verify", "--seconds", "2", "--workload", workload, "--json", "--history", str(tmp_path))
    assert result.code == 0, result.text + result.err
    report = json.loads(result.text)
    assert report["verdict"] == "linearizable"
    assert report["outcomes"]["ok"] > 20
    assert report["outcomes"]["fail"] + report["outcomes"]["unknown"] <= report["calls"] // 10
    assert shell("verify", "replay", str(tmp_path / f"{workload}.jsonl")).code == 0
    assert shell("scan", f"verify/{workload}/", "--json").json()["entries"] == []


@pytest.mark.parametrize("level", ["session", "one"])
def test_verify_weak_reads_of_a_healthy_cluster_keep_their_promise(
    level: str, shell: Shell, tmp_path: Path
) -> None:
    result = shell(
        "verify", "--seconds", "2", "--workload", "register", "--read", level, "--history", str(tmp_path)
    )
    assert result.code == 0, result.text + result.err
    assert f'"level":"{level}"' in (tmp_path / "register.jsonl").read_text()
