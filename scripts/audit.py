"""`make audit`: asks pip-audit about every installed package.

Exit 0: nothing is known; 1: something is; 3: no answer.

A database that can't be reached is no clean bill: it is said, and the exit code tells it from both verdicts.
Looked up is what is installed beside replcache; replcache itself is in no index.
"""

import json
import subprocess
import sys

CLEAN, VULNERABLE, NO_ANSWER = 0, 1, 3
TIMEOUT_S = 300
# A service's address in its error is all that tells these from a bug of the tool.
UNREACHABLE = (
    "ConnectionError", "ServiceError", "ConnectionRefused", "NewConnectionError", "Name or service",
    "Max retries", "timed out", "Timeout", "ProxyError", "SSLError", "status code", "HTTPError",
    "Client Error", "Server Error",
)  # fmt: skip


def run(service: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--progress-spinner", "off"]
    return subprocess.run(
        [*command, "--format", "json", "--timeout", "20", "--vulnerability-service", service],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def verdict(service: str) -> int | None:
    """An exit code; None: this service gave no answer."""
    try:
        done = run(service)
    except subprocess.TimeoutExpired:
        print(f"{service}: no answer within {TIMEOUT_S} s", file=sys.stderr)
        return None
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        print(f"{service}: {last[:300]}", file=sys.stderr)
        if any(mark in done.stderr for mark in UNREACHABLE):
            return None
        raise SystemExit(f"pip-audit failed with code {done.returncode}:\n{done.stderr}") from None
    skipped = [one["name"] for one in found if "skip_reason" in one]
    if len(skipped) == len(found):
        print(
            f"{service}: knows none of {len(found)} packages: a mirror without advisories?", file=sys.stderr
        )
        return None
    known = [(one["name"], one["version"], vuln) for one in found for vuln in one.get("vulns", ())]
    for name, version, vuln in known:
        fixed = ", ".join(vuln["fix_versions"]) or "no release yet"
        print(f"{name} {version}: {vuln['id']}, fixed in {fixed}")
    print(f"{service}: {len(found) - len(skipped)} packages looked up, {len(known)} known vulnerabilities")
    if skipped:
        print(f"not looked up: {', '.join(skipped)}")
    return VULNERABLE if known else CLEAN


def main() -> int:
    for service in ("pypi", "osv"):
        code = verdict(service)
        if code is not None:
            return code
    print(
        "NOT AUDITED: no advisory database can be reached from here; run it where one can.", file=sys.stderr
    )
    return NO_ANSWER


if __name__ == "__main__":
    sys.exit(main())
