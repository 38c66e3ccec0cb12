"""The verdicts of other checkers on other systems' histories.

The histories lie beside the repository (shared/histories, or REPLCACHE_HISTORIES), with their verdicts in
MANIFEST.json; the tests are skipped where they are not.
"""

import json
import os
from pathlib import Path

import pytest

from replcache.verify.checker import Verdict
from replcache.verify.external import Judgement, judge

ROOT = Path(__file__).resolve().parents[3]
HISTORIES_VARIABLE = "REPLCACHE_HISTORIES"


def histories_folder() -> Path | None:
    """The first folder with a manifest: the one asked for, or beside the repository or one of its parents."""
    given = os.environ.get(HISTORIES_VARIABLE, "")
    places = [Path(given)] if given else [above / "shared" / "histories" for above in ROOT.parents]
    return next((place for place in places if (place / "MANIFEST.json").is_file()), None)


FOLDER = histories_folder()
MANIFEST = json.loads((FOLDER / "MANIFEST.json").read_text()) if FOLDER else []
pytestmark = pytest.mark.skipif(
    FOLDER is None, reason=f"no shared/histories beside the repository, and no {HISTORIES_VARIABLE}"
)


def judge_entry(folder: Path, entry: dict[str, object]) -> Judgement:
    """Translates the words of the manifest."""
    path, model = folder / str(entry["file"]), str(entry["model"])
    if str(entry["format"]).startswith("jepsen.util"):
        return judge(path, "jepsen-log", "register")
    form = "json" if path.suffix == ".json" else "edn"
    if model.startswith("cas-register"):
        return judge(path, form, "cas-register", options={"initial": 0})
    if model.startswith("kv"):
        return judge(path, form, "kv")
    if model.startswith("multi-register"):
        return judge(path, form, "multi-register", options={"initial": {"x": 0, "y": 0}})
    if model.startswith("list-append"):
        return judge(path, form, "list-append", options={"realtime": "serializable" not in model})
    return judge(path, form, model.split(" ", maxsplit=1)[0])


@pytest.mark.parametrize("entry", MANIFEST, ids=lambda entry: str(entry["file"]))
def test_judge_on_known_history_gives_its_verdict(entry: dict[str, object]) -> None:
    assert FOLDER is not None
    judgement = judge_entry(FOLDER, entry)
    expected = entry["linearizable"] if "linearizable" in entry else entry["valid"]
    wanted = Verdict.LINEARIZABLE if expected else Verdict.VIOLATION
    assert judgement.verdict is wanted, judgement.problems


def test_manifest_is_not_one_sided() -> None:
    verdicts = [entry.get("linearizable", entry.get("valid")) for entry in MANIFEST]
    assert min(verdicts.count(True), verdicts.count(False)) >= 10
