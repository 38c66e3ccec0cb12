"""docs/mission.md has every row once, with a check that exists or the words that say why there is none."""

import re

from tests.tidy.sources import ROOT

ROW = re.compile(r"^\| (\d+) \|([^|]+)\|([^|]*)\| ([^|]+) \|$", flags=re.M)
FILE = re.compile(r"`([\w/]+\.py)(?:::(\w+))?`")
STATES = ("met", "partly", "**not built**", "open")
ROWS = ROW.findall((ROOT / "docs/mission.md").read_text(encoding="utf-8"))


def test_every_row_is_there_once_and_in_order() -> None:
    assert [int(number) for number, *_ in ROWS] == list(range(1, 71))


def test_every_row_has_a_check_that_exists_or_says_why_not() -> None:
    wrong = []
    for number, _, check, state in ROWS:
        if not state.startswith(STATES):
            wrong.append(f"row {number}: state {state!r} is none of {STATES}")
        if state.startswith(("met", "partly")) and "`" not in check:
            wrong.append(f"row {number}: nothing checks it")
        # What is not met says what is missing.
        if not state.startswith("met") and ":" not in state:
            wrong.append(f"row {number}: does not say why")
        for file, name in FILE.findall(check):
            path = ROOT / "tests" / file
            if not path.is_file() or (name and f"def {name}(" not in path.read_text(encoding="utf-8")):
                wrong.append(f"row {number}: {file} {name} does not exist")
    assert not wrong, "\n".join(wrong)
