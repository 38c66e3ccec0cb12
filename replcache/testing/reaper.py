"""Ends the nodes of a test whose process was killed: nodes are detached, and nobody else would.

Cluster starts it as `python -m replcache.testing.reaper DIRECTORY temporary|kept` and holds the other end of
its standard input, which the operating system closes when that process ends, however it does.
"""

import shutil
import signal
import sys
from pathlib import Path

from replcache.localcluster import LocalCluster


def main() -> None:
    directory, is_temporary = Path(sys.argv[1]), sys.argv[2] == "temporary"
    sys.stdin.buffer.read()
    cluster = LocalCluster(directory)
    for name in cluster.names:
        cluster.kill(name, signal.SIGCONT)
        cluster.kill(name)
    if is_temporary:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
