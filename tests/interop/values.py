"""Text, JSON, a picture and a vector: written in one language, read in another, content types included."""

import struct
from pathlib import Path

import numpy

from replcache import Client, Typed
from tests.helpers.process_cluster import ProcessCluster
from tests.interop import transcript

NAMES = ("text", "json", "png", "vector")
TEXT = "grüße, 世界"
JSON = {"name": "Ada", "tags": ["a", "b"], "pi": 3.25}
VECTOR = numpy.array([0.5, -1.25, 3, 1e-3], dtype=numpy.float32)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def check(folder: Path, cluster: ProcessCluster) -> None:
    """Node.js writes and Python reads, then the other way round.

    Raises:
        WrongTranscript: a value or a content type has changed on the way.
    """
    program, address = ["node", "values.mjs"], cluster.local.endpoints[1]
    transcript.run([*program, "write", address, "there/"], folder, [f"{name} written" for name in NAMES])
    with cluster.client() as client:
        picture = read(client)
        client.set("back/text", TEXT)
        client.set("back/json", JSON)
        client.set("back/png", Typed(picture, "image/png"))
        client.set("back/vector", VECTOR)
    transcript.run([*program, "check", address, "back/"], folder, [f"{name} equal" for name in NAMES])


def read(client: Client) -> bytes:
    """Compares what Node.js wrote; returns the picture."""
    found = {name: client.get(f"there/{name}") for name in NAMES}
    entries = {name: entry for name, entry in found.items() if entry is not None}
    types = {name: entry.content_type for name, entry in entries.items()}
    expected = {
        "text": "text/plain",
        "json": "application/json",
        "png": "image/png",
        "vector": "application/x-npy",
    }
    if types != expected:
        raise transcript.WrongTranscript(f"content types {types}")
    if entries["text"].value != TEXT or entries["json"].value != JSON:
        raise transcript.WrongTranscript(f"{entries['text'].value!r}, {entries['json'].value!r}")
    vector = entries["vector"].value
    if vector.dtype != numpy.float32 or not numpy.array_equal(vector, VECTOR):
        raise transcript.WrongTranscript(f"the vector is {vector!r}")
    picture: bytes = entries["png"].value
    if not picture.startswith(PNG_SIGNATURE) or struct.unpack_from(">II", picture, 16) != (1, 1):
        raise transcript.WrongTranscript(f"the picture is {picture!r}")
    return picture
