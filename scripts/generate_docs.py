"""Writes what follows from other files (`make generate`).

docs/configuration.md, docs/tuning.md and deploy/replcache.toml from the settings model, docs/planted_bugs.md
from the last hunt for planted bugs; into docs/clients.md the programs that it shows.

With --check nothing is written; exit 1 when one of them is not what would be written.
"""

import argparse
import json
import re
import sys
import tomllib
import typing
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from replcache import constants
from replcache.config import ENV_PREFIX, ServerConfig, sample_toml, toml_value

ROOT = Path(__file__).resolve().parent.parent
HEAD = """# Settings

Generated from `replcache/config.py` by `make generate`. A setting comes, in rising order of precedence, from
its default, the TOML file (`--config`, `REPLCACHE_CONFIG`), the environment variable, and the flag of
`replcache serve`. Unknown names are errors, and all problems are reported at once. `replcache config` prints
what is in force and where each value comes from; `deploy/replcache.toml` is a sample file.

| setting | default | environment | flag | meaning |
|---|---|---|---|---|
"""


def configuration_page() -> str:
    rows = []
    for name, field in ServerConfig.model_fields.items():
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        default = toml_value(field.default)
        flag = f"--{name.replace('_', '-')}"
        rows.append(f"| `{name}` | `{default}` | `{ENV_PREFIX}{name.upper()}` | `{flag}` | {meaning} |")
    return HEAD + "\n".join(rows) + "\n"


TUNING = ROOT / "scripts" / "tuning.toml"
# Bounds that only keep numbers finite.
NO_BOUND = 1_000_000_000


def bounds_of(name: str) -> str:
    """`0.05 to 60`, as the settings model has it."""
    found = {}
    for part in ServerConfig.model_fields[name].metadata:
        for side in ("ge", "le"):
            if getattr(part, side, None) is not None and getattr(part, side) < NO_BOUND:
                found[side] = f"{getattr(part, side):,}"
    if not found:
        choices = typing.get_args(ServerConfig.model_fields[name].annotation)
        return ", ".join(f"`{choice}`" for choice in choices if isinstance(choice, str))
    return f"{found['ge']} to {found['le']}" if len(found) == 2 else f"from {found.get('ge', '?')}"


def tuning_page() -> str:
    texts = tomllib.loads(TUNING.read_text(encoding="utf-8"))
    unknown = sorted(set(texts["advice"]) - set(ServerConfig.model_fields))
    assert not unknown, f"{TUNING} advises on settings that do not exist: {unknown}"
    rows = []
    for name, field in ServerConfig.model_fields.items():
        if advice := texts["advice"].get(name):
            unit, effect, when = advice.get("unit", ""), advice["effect"], advice["when"]
            default = toml_value(field.default)
            rows.append(f"| `{name}` | {unit} | `{default}` | {bounds_of(name)} | {effect} | {when} |")
    tail = texts["tail"].format(
        key=f"{constants.KEY_BYTES_MAX:,}",
        value=f"{constants.VALUE_BYTES_MAX:,}",
        operations=f"{constants.BATCH_OPERATIONS_MAX:,}",
        batch=f"{constants.BATCH_BYTES_MAX:,}",
        message=f"{constants.MESSAGE_BYTES_MAX:,}",
        waiters=f"{constants.LOCK_WAITERS_MAX:,}",
        page=f"{constants.SCAN_PAGE_ENTRIES_MAX:,}",
    )
    return texts["head"] + "\n".join(rows) + "\n\n" + tail


# Random schedules that the hunt gives each bug (SEEDS_MAX of tests/simulation/mutants.py).
BUDGET = 300
BUGS_HEAD = """# Planted bugs

Generated from `tests/simulation/mutants.json` by `make generate`. A simulation that finds nothing proves
something only if it would find bugs. So bugs are planted, one at a time, in the running product code
(`tests/simulation/mutants*.py`; never shipped): each hazard of pysyncobj put back, and the mistakes that
others made in such systems. `make test` hunts each by the schedule that caught it;
`python -m tests.simulation.mutants --jobs 2 --store` hunts all by chance first.

**{caught} of {count} are caught**: {by_chance} by random schedules, with at most {most} of them, and
{by_hand} by a schedule written for it (chance did not find these within {budget} schedules).
Groups: {groups}.

| planted bug | what it breaks | random schedules until caught | seen as |
|---|---|--:|---|
"""


def planted_bugs_page() -> str:
    found = json.loads((ROOT / "tests/simulation/mutants.json").read_text(encoding="utf-8"))
    groups = Counter(bug["group"] for bug in found)
    seeds = [bug["seeds"] for bug in found if bug["seeds"]]
    rows = []
    for bug in found:
        tries = str(bug["seeds"]) if bug["seeds"] else "by hand"
        rows.append(f"| {bug['name']} | {bug['about']} | {tries} | {bug['kind'] or bug['directed']} |")
    head = BUGS_HEAD.format(
        caught=sum(1 for bug in found if bug["kind"] or bug["directed"]),
        count=len(found),
        by_chance=len(seeds),
        most=max(seeds),
        by_hand=len(found) - len(seeds),
        budget=BUDGET,
        groups=", ".join(f"{name} {number}" for name, number in sorted(groups.items())),
    )
    return head + "\n".join(rows) + "\n"


# A comment that names a file, and the block of code under it.
SHOWN = re.compile(r"^(<!-- file (\S+) -->\n```\w+\n).*?^```$", re.S | re.M)


def page_with_files(page: Path) -> str:
    """The page with each block of code that names a file replaced by that file."""

    def block(match: re.Match[str]) -> str:
        return match[1] + (ROOT / match[2]).read_text(encoding="utf-8") + "```"

    return SHOWN.sub(block, page.read_text(encoding="utf-8"))


def generated() -> Mapping[Path, str]:
    return {
        ROOT / "docs" / "configuration.md": configuration_page(),
        ROOT / "docs" / "tuning.md": tuning_page(),
        ROOT / "deploy" / "replcache.toml": sample_toml(),
        ROOT / "docs" / "planted_bugs.md": planted_bugs_page(),
        ROOT / "docs" / "clients.md": page_with_files(ROOT / "docs" / "clients.md"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 when out of date")
    check_only = parser.parse_args().check
    stale = 0
    for path, text in generated().items():
        if check_only:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                print(f"out of date: {path.relative_to(ROOT)} (run `make generate`)", file=sys.stderr)
                stale += 1
        else:
            path.write_text(text, encoding="utf-8")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
