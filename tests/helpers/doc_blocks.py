"""The code blocks of a document, and what its hidden comments say about them.

A comment on the lines before a block (not shown to readers) can say:

    <!-- not run: why -->           the block is not executed
    <!-- before:
    python code
    -->                             executed first: what the example takes for granted (any number of these)
    <!-- file tests/interop/x -->   it is this file, and runs where that does (`make interop`)
"""

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^( *)```+ *([\w+-]*)[^\n]*$")
_NOT_RUN = re.compile(r"<!--\s*not run:\s*(.*?)\s*-->", flags=re.S)
_FILE = re.compile(r"<!--\s*file (\S+)\s*-->")
_BEFORE = re.compile(r"<!--\s*before:\s*\n(.*?)-->", flags=re.S)
# Lines of a block that is set off by spaces only and holds commands: nobody can tell its language.
_UNFENCED = re.compile(r"^ {4}(?:make|python|replcache|systemctl|docker|kubectl|export|from|import|pip) ")


@dataclass(frozen=True, slots=True)
class Block:
    """`line` counts from 1; `reason` is why it is not run ("" = run it); `before` is Python to run first.

    `file` is the file of the repository that it shows, or "".
    """

    page: str
    line: int
    language: str
    text: str
    reason: str
    before: str
    file: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(path: Path, page: str) -> list[Block]:
    """All fenced blocks of a Markdown file, in their order."""
    found: list[Block] = []
    prose: list[str] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        if fence is None:
            prose.append(lines[at])
            at += 1
            continue
        indent, language = fence.groups()
        end = next((i for i in range(at + 1, len(lines)) if lines[i].strip() == "```"), None)
        assert end is not None, f"{page}:{at + 1}: a block without an end"
        text = "\n".join(line.removeprefix(indent) for line in lines[at + 1 : end]) + "\n"
        said = "\n".join(prose)
        # Only what stands right before the block belongs to it.
        near = re.search(r"(?:(?:<!--(?:(?!-->).)*-->)\s*)+\Z", said, flags=re.S)
        comments = near.group(0) if near else ""
        reason = _NOT_RUN.search(comments)
        file = _FILE.search(comments)
        found.append(
            Block(
                page,
                at + 1,
                language,
                text,
                reason.group(1) if reason else "",
                "\n".join(_BEFORE.findall(comments)),
                file.group(1) if file else "",
            )
        )
        prose = []
        at = end + 1
    return found


def unfenced_commands(path: Path) -> list[int]:
    """Numbers of lines that look like commands but are in no fenced block."""
    found = []
    inside = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if _FENCE.match(line):
            inside = not inside
        elif not inside and _UNFENCED.match(line):
            found.append(number)
    return found
