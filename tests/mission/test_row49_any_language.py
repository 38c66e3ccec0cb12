"""Clients in every language for which this machine has tools, from the .proto files alone."""

from pathlib import Path

import pytest

from tests.interop import run
from tests.interop.languages import LANGUAGES, Language


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
@pytest.mark.timeout(1800)
def test_row49_clients_in_any_language(language: Language, tmp_path: Path) -> None:
    """Reads, writes, locks, a watch over a leader kill; on a plain cluster and with TLS and tokens."""
    if missing := language.missing():
        pytest.skip(f"needs {', '.join(missing)}")
    run.WORK.mkdir(exist_ok=True)
    (row,) = run.run([language], tmp_path)
    print(row.text())
    assert not row.failure, row.failure
    done = {"build", "first", "plain", "tls"} | ({"values"} if language.name == "node" else set())
    assert row.times.keys() >= done
