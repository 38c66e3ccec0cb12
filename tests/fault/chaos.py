"""Workloads under a nemesis on real processes, judged by the checker: `make chaos SEED=n DURATION=60`.

    python -m tests.fault.chaos [--seed N] [--seconds 60] [--workload register ...] [--kinds kill ...]
                                [--read one] [--out DIR]

Exit code 0 when every history is linearizable, 1 on a violation, 2 when a run proves nothing. The same seed
gives the same faults. DIR holds histories, pictures of violations, logs of the nodes, and report.html.
"""

import argparse
import asyncio
import random
import shutil
import sys
from pathlib import Path

from replcache.verify.picture import write_picture
from replcache.verify.run import Report, verify
from replcache.verify.workloads import WORKLOADS
from tests.fault.nemesis import ENVIRONMENT, FAULTS, Nemesis
from tests.fault.report import write_report
from tests.helpers.process_cluster import ProcessCluster

# The cluster clock stands still while there is no leader, and kill-all takes it away for many seconds: an
# entry may live that much longer, but never shorter and never again.
OPTIONS = {"ttl": {"late_tolerance_ns": 40_000_000_000}}


async def run_workload(
    cluster: ProcessCluster, workload: str, args: argparse.Namespace, out: Path
) -> tuple[Report, Nemesis]:
    nemesis = Nemesis(cluster, args.kinds)
    report = await verify(
        cluster.url,
        workload,
        args.seconds,
        args.processes,
        args.seed,
        args.read if "one" in args.read and workload == "register" else "linearizable",
        nemesis,
        out / f"{workload}.jsonl",
        timeout_s=3.0,
        workload_options=OPTIONS.get(workload),
        strict=args.strict,
    )
    return report, nemesis


def run(args: argparse.Namespace) -> int:
    out: Path = args.out
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    cluster = ProcessCluster(out / "cluster", random.Random(args.seed))
    cluster.start(**ENVIRONMENT)
    worst = 0
    reports = []
    try:
        cluster.wait_ready()
        for workload in args.workload:
            print(f"--- {workload}, seed {args.seed}, {args.seconds:.0f} s", flush=True)
            report, _ = asyncio.run(run_workload(cluster, workload, args, out))
            print(report.text(), flush=True)
            if report.explanation is not None:
                picture = out / f"{workload}.html"
                write_picture(report.explanation, picture)
                print(f"  picture: {picture}")
            reports.append(report)
            worst = max(worst, report.exit_code)
    finally:
        cluster.stop()
    write_report(reports, args.seed, out / "report.html")
    print(f"report: {out / 'report.html'}; again: python -m tests.fault.chaos --seed {args.seed}")
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--workload", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--kinds", nargs="+", default=list(FAULTS), choices=list(FAULTS))
    parser.add_argument("--read", default="linearizable", choices=("linearizable", "one"))
    parser.add_argument("--strict", action="store_true", help="judge reads of level one as linearizable")
    parser.add_argument("--out", type=Path, default=Path(".chaos"))
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
