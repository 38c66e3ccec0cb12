"""The movie catalogue: data/movies.json of the npm package vega-datasets, fetched once and kept.

The version is pinned, and what arrives is compared with the SHA-512 that the registry publishes for it.
"""

import base64
import hashlib
import json
import math
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

VERSION = "3.2.1"
SHA512 = "lTSwZA6yq6qSU2YZm+6bqILiIvTPPxn4itir7jPGFmHIdPvUfQ9pCzzcrklYywMJgLUbaIeSkZQdiJd6wBxPug=="
REGISTRY = "https://registry.npmjs.org"
ARCHIVE = f"vega-datasets-{VERSION}.tgz"
MEMBER = "package/data/movies.json"
FETCH_TIMEOUT_S = 120.0


class Movie(NamedTuple):
    """A row of the table movies; `quality` is the rating, worth more with more votes."""

    id: str
    title: str
    genre: str
    director: str
    quality: float


class NoCatalogue(Exception):
    """The catalogue is neither here nor to be had; the message says what to do."""


def load(folder: Path, file: Path | None = None) -> list[Movie]:
    """All movies, the best known first; `file`: one of the same form, instead of the package's.

    Raises:
        NoCatalogue: it can't be fetched, or is not what it should be.
    """
    path = file or folder / f"movies-{VERSION}.json"
    if file is None and not path.exists():
        _fetch(path)
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    rows.sort(key=lambda row: -(row["IMDB Votes"] or 0))
    return [
        Movie(
            id=f"m{number}",
            title=str(row["Title"]),
            genre=row["Major Genre"] or "Other",
            director=row["Director"] or "",
            quality=(row["IMDB Rating"] or 0.0) * math.log10((row["IMDB Votes"] or 0) + 10),
        )
        for number, row in enumerate(rows)
    ]


def _fetch(path: Path) -> None:
    registry = os.environ.get("NPM_CONFIG_REGISTRY", REGISTRY).rstrip("/")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / ARCHIVE
        try:
            _download(archive, registry)
        except (OSError, urllib.error.URLError, subprocess.SubprocessError) as err:
            raise NoCatalogue(
                f"The movie catalogue can't be fetched from {registry} ({err}). Try again with a network, "
                f"set NPM_CONFIG_REGISTRY to a mirror, or take data/movies.json out of the npm package "
                f"vega-datasets@{VERSION} yourself and put it at {path}"
            ) from err
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != SHA512:
            raise NoCatalogue(f"{ARCHIVE} from {registry} has SHA-512 {digest}, not {SHA512}: not used")
        with tarfile.open(archive) as files:
            member = files.extractfile(MEMBER)
            if member is None:
                raise NoCatalogue(f"{ARCHIVE} has no {MEMBER}")
            data = member.read()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(data)
    unfinished.replace(path)


def _download(archive: Path, registry: str) -> None:
    """By npm where it is installed, since it knows this machine's proxies and mirrors."""
    if npm := shutil.which("npm"):
        subprocess.run(
            [npm, "pack", f"vega-datasets@{VERSION}", "--fetch-retries", "1", "--registry", registry],
            cwd=archive.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=FETCH_TIMEOUT_S,
            check=True,
        )
        return
    address = f"{registry}/vega-datasets/-/{ARCHIVE}"
    with urllib.request.urlopen(address, timeout=FETCH_TIMEOUT_S) as answer, archive.open("wb") as file:
        shutil.copyfileobj(answer, file)
