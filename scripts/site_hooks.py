"""What mkdocs can't do by itself: pages that lie outside docs/, links between them, nothing from elsewhere.

The pages read well as plain files, too, and link to each other and to source files by their places in the
repository. In the site a link to a page leads to the page, and one to any other file keeps its text only.
"""

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
# Pages outside docs/: place in the repository -> place in the site.
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security_policy.md",
    "deploy/RUNBOOK.md": "runbook.md",
    "tests/README.md": "tests.md",
}
_ORIGINS = {site: place for place, site in PAGES.items()}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", flags=re.S | re.M)
# What a browser loads by itself; a link that is only followed when it is clicked may lead anywhere.
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|link(?! rel=\"canonical\"))[^>]+(?:src|href)=\"?(https?:)?//"
)
_LOADED_BY_STYLE = re.compile(r"(?:@import|url\()\s*[\"']?(?:https?:)?//")


def site_place(place: str) -> str:
    """Where a file of the repository is in the site, or "" when it is not there."""
    if place in PAGES:
        return PAGES[place]
    return place.removeprefix("docs/") if place.startswith("docs/") else ""


def adapt_links(markdown: str, page: str) -> str:
    """`markdown` of the site's page `page`, with the links of the repository turned into the site's."""
    folder = posixpath.dirname(_ORIGINS.get(page, f"docs/{page}"))

    def adapt(match: re.Match[str]) -> str:
        picture, text, target = match.groups()
        path, hash_sign, anchor = target.partition("#")
        if "://" in target or not path:
            return match.group(0)
        place = posixpath.normpath(posixpath.join(folder, path))
        if not (ROOT / place).exists():
            raise PluginError(f"{page}: the link to {target} leads nowhere")
        found = site_place(place)
        if not found or (ROOT / place).is_dir():
            return text
        there = posixpath.relpath(found, posixpath.dirname(page) or ".")
        return f"{picture}[{text}]({there}{hash_sign}{anchor})"

    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(adapt, markdown[end : fence.start()]), fence.group(0)]
        end = fence.end()
    return "".join([*parts, _LINK.sub(adapt, markdown[end:])])


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The decisions come into the navigation by themselves, behind their list."""
    folder = ROOT / "docs" / "decisions"
    decisions = ["decisions/README.md", *sorted(f"decisions/{path.name}" for path in folder.glob("0*.md"))]
    (config.nav or []).append({"Decisions": decisions})
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for place, site in PAGES.items():
        if (ROOT / place).is_file():
            files.append(File.generated(config, site, abs_src_path=str(ROOT / place)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    if "```mermaid" in markdown:
        raise PluginError(
            f"{page.file.src_uri}: a script from outside draws mermaid blocks; use docs/images/"
        )
    return adapt_links(markdown, page.file.src_uri)


def on_post_build(*, config: MkDocsConfig) -> None:
    """Refuses a site that would load anything from elsewhere."""
    outside = []
    for folder, _, names in os.walk(config.site_dir):
        for name in names:
            path = Path(folder, name)
            if path.suffix in (".html", ".css"):
                text = path.read_text(encoding="utf-8")
                outside += [f"{path}: {m.group(0)}" for m in _LOADED.finditer(text)]
                outside += [f"{path}: {m.group(0)}" for m in _LOADED_BY_STYLE.finditer(text)]
    if outside:
        raise PluginError("loaded from outside:\n" + "\n".join(outside))
