"""Readers for the histories of other systems: Jepsen's log lines, and EDN or JSON operations.

Each event becomes part of an Operation; its time is its place in the file, which is what these formats
promise (they are written in real-time order). `:info` and a missing end are unknown outcomes. A process
that goes on after an unknown outcome is given a new number, as newer Jepsen versions do themselves.

`:fail` means two things in these files. For most operations: it did not happen, and is dropped. For a cas
of a Jepsen log it means that the register had another value, which is an answer; `failed_cas_is_answer`
keeps it.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from replcache.verify.edn import EdnError, read_all
from replcache.verify.history import INFINITY_NS, History, HistoryError, Operation, Outcome, Value, freeze

# (process, type, function, key, value)
_Event = tuple[Value, str, str, str, Value]
# function, value of the call, value of the end -> (input, output)
Shape = Callable[[str, Value, Value, bool], tuple[Value, Value]]

_LOG_LINE: Final = re.compile(
    r"INFO\s+jepsen\.util - (?P<process>\d+)\s+:(?P<type>invoke|ok|fail|info)"
    r"\s+:(?P<f>[\w-]+)\s+(?P<value>.*)"
)
# Output of a read that may have seen anything; it is dropped, as if it had failed.
UNSAID: Final = object()
_END: Final = {"ok": Outcome.OK, "fail": Outcome.FAIL, "info": Outcome.UNKNOWN}


def plain_shape(function: str, called: Value, ended: Value, ok: bool) -> tuple[Value, Value]:
    """Reads return what the end says; other calls are defined by what they were called with."""
    if function in ("read", "get"):
        return None, ended if ok else None
    return called, None


def register_shape(function: str, called: Value, ended: Value, ok: bool) -> tuple[Value, Value]:
    """The words of models.Register. A read of nil is a read of a missing key."""
    if function == "read":
        return None, None if not ok or ended is None else (ended, None)
    if function == "cas":
        return called, ok
    return called, None


def knossos_shape(function: str, called: Value, ended: Value, ok: bool) -> tuple[Value, Value]:
    """As register_shape; but a read of nil means, in Knossos' models, that the value was not noted."""
    if function == "read" and ok and ended is None:
        return None, UNSAID
    return register_shape(function, called, ended, ok)


def transaction_shape(function: str, called: Value, ended: Value, ok: bool) -> tuple[Value, Value]:
    return called, ended if ok else None


def read_jepsen_log(path: Path) -> History:
    """Log lines of Jepsen's etcd test: `INFO  jepsen.util - 3<tab>:invoke<tab>:cas<tab>[1 4]`.

    Raises:
        HistoryError: there is no such line in it.
        OSError: the file can't be opened.
    """
    history = _history(_log_events(path), register_shape, failed_cas_is_answer=True)
    if not history.operations and path.stat().st_size:
        # Lines that are no events are left out, so this may be any file: no verdict on it may be a pass.
        raise HistoryError(f"{path} has no line of a call: it is no log of Jepsen's")
    return history


def read_edn(path: Path, shape: Shape = plain_shape, *, failed_cas_is_answer: bool = False) -> History:
    """Maps with :process, :type, :f, :value and perhaps :key; in one vector or list, or one after another.

    Events of processes that are not numbers (the nemesis) are left out. JSON files (one array, or one object
    a line) with the same names are read too.

    Raises:
        HistoryError: not such a file.
        OSError: the file can't be opened.
    """
    text = path.read_text(encoding="utf-8")
    forms = _json_forms(text, path) if path.suffix in (".json", ".jsonl") else _edn_forms(text, path)
    return _history(_form_events(forms, path), shape, failed_cas_is_answer)


def _edn_forms(text: str, path: Path) -> list[Any]:
    try:
        forms = read_all(text)
    except (EdnError, RecursionError) as err:
        raise HistoryError(f"{path}: {err}") from err
    return list(forms[0]) if len(forms) == 1 and isinstance(forms[0], tuple) else forms


def _json_forms(text: str, path: Path) -> list[Any]:
    try:
        loaded = json.loads(text)
        return loaded if isinstance(loaded, list) else [loaded]
    except json.JSONDecodeError:
        pass
    except RecursionError as err:
        raise HistoryError(f"{path}: {err}") from err
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (json.JSONDecodeError, RecursionError) as err:
        raise HistoryError(f"{path}: not JSON: {err}") from err


def _log_events(path: Path) -> Iterator[_Event]:
    for line in path.read_text(encoding="utf-8").splitlines():
        match = _LOG_LINE.match(line)
        if match is None:
            continue
        words = read_all(match["value"])
        yield int(match["process"]), match["type"], match["f"], "", words[0] if words else None


def _form_events(forms: Iterable[Any], path: Path) -> Iterator[_Event]:
    for number, form in enumerate(forms):
        if not isinstance(form, dict) or "type" not in form or "process" not in form:
            raise HistoryError(f"{path}: event {number} is no map with :type and :process: {str(form)[:80]}")
        process = form["process"]
        if isinstance(process, bool) or not isinstance(process, int):
            continue
        value = form.get("value")
        name = str(form.get("f") or "txn")
        yield process, str(form["type"]).lstrip(":"), name.lstrip(":"), str(form.get("key", "")), value


def _history(events: Iterable[_Event], shape: Shape, failed_cas_is_answer: bool) -> History:
    operations: list[Operation] = []
    running: dict[Value, tuple[int, Value]] = {}  # process -> (index of its operation, value called with)
    numbers: dict[Value, int] = {}
    fresh = 0
    for time, (process, kind, function, key, value) in enumerate(events):
        if kind == "invoke":
            if process in running or process not in numbers:
                numbers[process] = fresh
                fresh += 1
            running[process] = (len(operations), value)
            # Already now: a call whose end is missing may take effect, with what it was called with.
            given = freeze(shape(function, value, None, False)[0])
            operations.append(
                Operation(len(operations), numbers[process], function, key, given, None, time, INFINITY_NS)
            )
        elif process in running and kind in _END:
            index, called = running[process]
            outcome = _END[kind]
            if kind == "fail" and function == "cas" and failed_cas_is_answer:
                outcome = Outcome.OK
            operations[index] = _ended(operations[index], time, outcome, shape, called, value, kind == "ok")
            if outcome is not Outcome.UNKNOWN:
                del running[process]
        elif kind == "ok":
            # What it tells of may be the very violation: without its call no verdict may be a pass.
            raise HistoryError(f"event {time}: process {process} ends a {function} that it never began")
    return History(tuple(operations))


def _ended(
    started: Operation, time: int, outcome: Outcome, shape: Shape, called: Value, ended: Value, ok: bool
) -> Operation:
    given, output = shape(started.op, called, ended, ok)
    if output is UNSAID:
        outcome = Outcome.FAIL
    return Operation(
        started.id,
        started.process,
        started.op,
        started.key,
        freeze(given),
        _hashable(output) if outcome is Outcome.OK else None,
        started.invoke_ns,
        INFINITY_NS if outcome is Outcome.UNKNOWN else time,
        outcome,
    )


def _hashable(value: Value) -> Value:
    return frozenset(value) if isinstance(value, set) else freeze(value)
