"""How a bug is planted: one function of the product is compiled again with a piece of its text replaced.

Nothing of it is in the product, and nothing stays: `planted()` is a context manager. A mutant whose text is
no longer found fails loudly, so that a mutant never silently stops being one.
"""

import contextlib
import importlib
import inspect
import textwrap
import types
import unittest.mock
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


class StaleMutantError(AssertionError):
    """The text that a mutant replaces is not in the product any more."""


@dataclass(frozen=True)
class Edit:
    """Replace `old` by `new` in one function, whose text begins in the first column.

    Attributes:
        place: "package.module:Class.method" or "package.module:function".
        also: further modules that have imported the function by name.
    """

    place: str
    old: str
    new: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mutant:
    """One planted bug.

    Attributes:
        group: "raft", "storage", "reads", "locks", "ttl" or "sessions".
        about: what it breaks, and the hazard or the class of bug that it stands for.
        directed: name of the directed schedule that finds it, when chance is too slow; "": chance.
    """

    name: str
    group: str
    about: str
    edits: tuple[Edit, ...]
    directed: str = ""


def _resolve(place: str) -> tuple[Any, str]:
    module_name, _, path = place.partition(":")
    owner: Any = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name


def rewritten(edits: list[Edit]) -> Any:
    """The function of `edits[0].place` with all edits done; a property or classmethod stays one."""
    owner, name = _resolve(edits[0].place)
    found = inspect.getattr_static(owner, name)
    function = found
    if isinstance(found, property):
        function = found.fget
    elif isinstance(found, classmethod | staticmethod):
        function = found.__func__
    assert isinstance(function, types.FunctionType), edits[0].place
    source = textwrap.dedent(inspect.getsource(function))
    for edit in edits:
        if source.count(edit.old) != 1:
            raise StaleMutantError(f"{edit.place}: found {source.count(edit.old)} times: {edit.old!r}")
        source = source.replace(edit.old, edit.new)
    if isinstance(owner, type):
        # A function compiled outside of its class has no cell for super().
        source = source.replace("super()", f"super({owner.__name__}, self)")
    made: dict[str, Any] = {}
    exec(compile(source, f"<mutant of {edits[0].place}>", "exec"), function.__globals__, made)
    return made[name]


@contextlib.contextmanager
def planted(mutant: Mutant | None) -> Iterator[None]:
    """The product with this bug in it (None: without any)."""
    with contextlib.ExitStack() as stack:
        places: dict[str, list[Edit]] = {}
        for edit in mutant.edits if mutant is not None else ():
            places.setdefault(edit.place, []).append(edit)
        for edits in places.values():
            made = rewritten(edits)
            owner, name = _resolve(edits[0].place)
            for target in (owner, *(importlib.import_module(module) for module in edits[0].also)):
                stack.enter_context(unittest.mock.patch.object(target, name, made))
        yield


def method(module: str, old: str, new: str) -> Edit:
    """Edit of "election:Election.campaign" and the like, below replcache.raft."""
    return Edit(f"replcache.raft.{module}", old, new)


def state(module: str, old: str, new: str) -> Edit:
    """The same, below replcache.statemachine."""
    return Edit(f"replcache.statemachine.{module}", old, new)


Check = Callable[[Mutant], str]
