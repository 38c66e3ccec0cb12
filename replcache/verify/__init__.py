"""Is a cluster linearizable? Workloads against a running one, histories, and a checker that says so or not.

    report = await verify("replcache://127.0.0.1:7401", "register", seconds=10)
    report.verdict, report.text()

From the outside in: run.py (a whole run, and its replay), workload.py and workloads.py (what is called),
port.py and client_port.py (through what), history.py (what is recorded, file format), models/ (what the
cluster must behave like), checker.py and search.py (the verdict), explain.py and picture.py (why not),
levels.py (reads of weaker levels), cli.py (`replcache verify`).

Beside that, for histories of other tools: edn.py and formats.py (reading them), transactions.py with
graph.py (cycles), totals.py (counters, sets, banks), external.py (all by name).

Uses the client, but neither server, raft nor state machine: what judges them must not share their errors.
"""
