"""Histories of other systems, judged with the checks of this package.

One entry point, `judge`, from a file, its format and the name of a model. The set of Jepsen, Knossos, Elle
and Porcupine histories with known verdicts runs through it (tests/unit/verify/test_external.py): a checker
is to be believed as far as it agrees with others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from replcache.clock import Clock
from replcache.verify import formats
from replcache.verify.checker import TIME_BUDGET_S, CheckResult, Verdict, check
from replcache.verify.history import History, Value
from replcache.verify.models import Model, MultiRegister, Mutex, Register, StringStore
from replcache.verify.totals import (
    check_bank,
    check_counter_bounds,
    check_long_fork,
    check_set,
    check_set_full,
)
from replcache.verify.transactions import check_list_append, check_rw_register

FORMATS: Final = ("jepsen-log", "edn", "json")


@dataclass(frozen=True, slots=True)
class Judgement:
    """`result` only where a linearizability search ran; `problems` only where another check did."""

    verdict: Verdict
    history: History
    result: CheckResult | None = None
    problems: tuple[str, ...] = ()


_SEARCHED: Final[Mapping[str, Callable[..., Model]]] = {
    "register": Register,
    "cas-register": Register,
    "multi-register": MultiRegister,
    "kv": StringStore,
    "mutex": Mutex,
}
_SHAPES: Final[Mapping[str, formats.Shape]] = {
    "register": formats.register_shape,
    "cas-register": formats.knossos_shape,
    "multi-register": formats.transaction_shape,
    "list-append": formats.transaction_shape,
    "rw-register": formats.transaction_shape,
    "long-fork": formats.transaction_shape,
}


def _anomalies(check_history: Callable[..., Sequence[object]]) -> Callable[..., list[str]]:
    return lambda history, **options: [str(found) for found in check_history(history, **options)]


_COUNTED: Final[Mapping[str, Callable[..., list[str]]]] = {
    "counter": check_counter_bounds,
    "set": check_set,
    "set-full": check_set_full,
    "bank": check_bank,
    "long-fork": check_long_fork,
    "list-append": _anomalies(check_list_append),
    # As Elle does: a value that nobody wrote may be older than the history.
    "rw-register": _anomalies(partial(check_rw_register, all_writes_recorded=False)),
}
MODEL_NAMES: Final = tuple(sorted({*_SEARCHED, *_COUNTED}))


def load(path: Path, format_name: str, model: str) -> History:
    """Reads a history in the words of a model.

    Raises:
        ValueError: no such format.
        HistoryError: the file is not in this format.
        OSError: the file can't be opened.
    """
    if format_name == "jepsen-log":
        return formats.read_jepsen_log(path)
    if format_name in ("edn", "json"):
        return formats.read_edn(path, _SHAPES.get(model, formats.plain_shape))
    raise ValueError(f"no format {format_name!r}; there are: {', '.join(FORMATS)}")


def judge(
    path: Path,
    format_name: str,
    model: str,
    *,
    options: Mapping[str, Value] | None = None,
    time_budget_s: float = TIME_BUDGET_S,
    clock: Clock | None = None,
) -> Judgement:
    """The verdict on one file. An empty history is linearizable.

    Args:
        model: one of MODEL_NAMES. counter, set, set-full, bank, long-fork, list-append and rw-register are
            judged by their observable consequences, the others by a linearizability search.
        options: of the model or check, e.g. {"initial": 0}, {"realtime": False}, {"total": 100}.

    Raises:
        ValueError: no such format or model.
        HistoryError: the file is not in this format.
        OSError: the file can't be opened.
    """
    history = load(path, format_name, model)
    if model in _SEARCHED:
        result = check(history, _SEARCHED[model](**(options or {})), time_budget_s=time_budget_s, clock=clock)
        return Judgement(result.verdict, history, result)
    if model in _COUNTED:
        problems = tuple(_COUNTED[model](history, **(options or {})))
        return Judgement(Verdict.VIOLATION if problems else Verdict.LINEARIZABLE, history, None, problems)
    raise ValueError(f"no model {model!r}; there are: {', '.join(MODEL_NAMES)}")
