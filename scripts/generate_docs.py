"""Writes docs/configuration.md and deploy/replcache.toml from the settings model (`make generate`).

With --check nothing is written; exit 1 when one of them is not what would be written.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from replcache.config import ENV_PREFIX, ServerConfig, sample_toml, toml_value

ROOT = Path(__file__).resolve().parent.parent
HEAD = """# Settings

Generated from `replcache/config.py` by `make generate`. A setting comes, in rising order of precedence, from
its default, the TOML file (`--config`, `REPLCACHE_CONFIG`), the environment variable, and the flag of
`replcache serve`. Unknown names are errors, and all problems are reported at once. `replcache config` prints
what is in force and where each value comes from; `deploy/replcache.toml` is a sample file.

| setting | default | environment | flag | meaning |
|---|---|---|---|---|
"""


def configuration_page() -> str:
    rows = []
    for name, field in ServerConfig.model_fields.items():
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        default = toml_value(field.default)
        flag = f"--{name.replace('_', '-')}"
        rows.append(f"| `{name}` | `{default}` | `{ENV_PREFIX}{name.upper()}` | `{flag}` | {meaning} |")
    return HEAD + "\n".join(rows) + "\n"


def generated() -> Mapping[Path, str]:
    return {
        ROOT / "docs" / "configuration.md": configuration_page(),
        ROOT / "deploy" / "replcache.toml": sample_toml(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 when out of date")
    check_only = parser.parse_args().check
    stale = 0
    for path, text in generated().items():
        if check_only:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                print(f"out of date: {path.relative_to(ROOT)} (run `make generate`)", file=sys.stderr)
                stale += 1
        else:
            path.write_text(text, encoding="utf-8")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
