"""replcache.testing: what docs/testing.md shows, executed; pytest finds the fixtures by the plugin alone."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from replcache.testing import Cluster, ClusterError
from replcache.testing.cluster import Cluster as SameCluster
from tests.helpers.wait import scaled, wait_until

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/testing.md").read_text(), flags=re.S | re.M)

# Beside the examples of the page, in the same session.
MORE = """
import pytest
from replcache.testing import ClusterError

def test_broken_things_are_whole_again_in_the_next_test(replcache_cluster):
    followers = replcache_cluster.followers()
    replcache_cluster.pause(followers[0])
    replcache_cluster.partition(followers[1])
    with pytest.raises(ClusterError, match="does not answer"):
        replcache_cluster.partition(followers[0])

def test_next(replcache_cluster):
    cache = replcache_cluster.client()
    assert [cache.set(f"k{n}", n).version for n in range(5)] == [1] * 5
    replcache_cluster.clear()
    assert list(cache.scan()) == []
    cache.set("large", b"x" * 5_000_000)
    cache.set("\U0010ffff" * 8, 1)
    replcache_cluster.clear()
    status = cache.status()
    assert (status.keys, status.value_bytes) == (0, 0), "parts of large values are keys as well"
    with pytest.raises(Exception, match="there is no node"):
        replcache_cluster.pause("n9")

def test_in_a_with_block():
{block}
"""


def test_the_examples_of_the_page_pass(tmp_path: Path) -> None:
    """In a pytest of its own, whose only plugin is ours (and the one for coroutines)."""
    fixtures, script = BLOCKS
    block = "".join(f"    {line}" for line in script.splitlines(keepends=True))
    (tmp_path / "test_page.py").write_text(fixtures + MORE.replace("{block}", block))
    plugins = ["-p", "replcache.testing.plugin", "-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=auto"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, "-p", "no:cacheprovider", "test_page.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=scaled(110),
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "6 passed" in done.stdout


def test_pytest_is_told_of_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"replcache": "replcache.testing.plugin"}
    assert Cluster is SameCluster


def test_the_plugin_costs_nothing_before_it_is_used() -> None:
    """It is loaded in every pytest run of a machine that has replcache."""
    code = "import sys, replcache.testing.plugin; assert not {'grpc', 'replcache.client'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_misuse_is_said() -> None:
    cluster = Cluster()
    with pytest.raises(ClusterError, match="does not run"):
        _ = cluster.url
    with pytest.raises(ClusterError, match="does not run"):
        cluster.kill("n1")
    cluster.stop()
    with pytest.raises(ClusterError, match="1 to 9"):
        Cluster(n=10).start()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_node_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import sys, signal; from replcache.testing import Cluster; cluster = Cluster(n=1).start();"
        "print(cluster._local.directory, cluster._local.pid('n1'), flush=True); signal.pause()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert program.stdout is not None
    directory, pid = program.stdout.readline().split()
    assert Path(f"/proc/{int(pid)}").exists()
    program.kill()
    program.communicate()
    wait_until(lambda: not Path(directory.decode()).exists(), 20, "the directory is removed")
    wait_until(lambda: not Path(f"/proc/{int(pid)}").exists(), 20, "the node is gone")
