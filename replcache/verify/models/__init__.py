"""Sequential specifications of replcache's objects, as pure functions (see base.py).

`model_named` finds one by the name that histories carry in their header.
"""

from collections.abc import Callable, Mapping
from typing import Final

from replcache.verify.history import Value
from replcache.verify.models.base import ILLEGAL, Model, Plan, State, Step
from replcache.verify.models.collections import AppendList, GrowSet
from replcache.verify.models.counter import Counter, OnceCounter
from replcache.verify.models.kv import MultiRegister, Mutex, StringStore
from replcache.verify.models.leases import ExpiringRegister, FencedLock
from replcache.verify.models.register import Register

MODELS: Final[Mapping[str, Callable[..., Model]]] = {
    model.name: model
    for model in (
        Register,
        Counter,
        OnceCounter,
        AppendList,
        GrowSet,
        FencedLock,
        ExpiringRegister,
        StringStore,
        MultiRegister,
        Mutex,
    )
}


def model_named(name: str, options: Mapping[str, Value] | None = None) -> Model:
    """A model by its name; `options` are its constructor's arguments.

    Raises:
        ValueError: there is no such model, or it has no such option.
    """
    if name not in MODELS:
        raise ValueError(f"no model {name!r}; there are: {', '.join(sorted(MODELS))}")
    try:
        return MODELS[name](**(options or {}))
    except TypeError as err:
        raise ValueError(f"model {name!r}: {err}") from err


__all__ = [
    "ILLEGAL",
    "MODELS",
    "AppendList",
    "Counter",
    "ExpiringRegister",
    "FencedLock",
    "GrowSet",
    "Model",
    "MultiRegister",
    "Mutex",
    "OnceCounter",
    "Plan",
    "Register",
    "State",
    "Step",
    "StringStore",
    "model_named",
]
