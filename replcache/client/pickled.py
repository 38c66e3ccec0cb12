"""Pickled values, for clients that were made with codec="pickle". The only place of the package that pickles.

Loading runs whatever code the writer put in: no other codec ever imports this module.
"""

import pickle
from typing import Any

from replcache.errors import InvalidRequest, WrongType


def encode(value: object) -> bytes:
    try:
        return pickle.dumps(value, protocol=5)
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as err:
        raise InvalidRequest(f"the value can't be pickled: {err}", field="value") from err


def decode(data: bytes) -> Any:
    try:
        return pickle.loads(data)
    # What loading raises is up to the content.
    except Exception as err:
        raise WrongType(f"the value can't be unpickled: {err}") from err
