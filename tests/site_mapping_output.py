"""Takes the outputs that docs/site-mapping.md shows from the commands themselves; a line of "…" stands for some."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from readme_output import output

PAGE = Path(__file__).parents[1] / "docs" / "site-mapping.md"
FIRST = 14
"""So many lines of a long output are shown, and the last ones."""
LAST = 5

_BLOCK = re.compile(
    r"^```console\n\$ (?P<command>fhir-screen (?:codes|coverage|screen) (?:sample_bundles|tests/data)[^\n#]*)\n.*?^```", re.M | re.S
)


def excerpt(lines: list[str]) -> Iterator[str]:
    if len(lines) <= FIRST + LAST:
        yield from lines
        return
    yield from (*lines[:FIRST], " …", *lines[-LAST:])


def written(page: str) -> str:
    def block(match: re.Match[str]) -> str:
        lines = [line for line in output(match["command"].strip()) if line]
        return "\n".join(["```console", f"$ {match['command']}", *excerpt(lines)]).rstrip() + "\n```"

    return _BLOCK.sub(block, page)


def main() -> None:
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stderr.write(f"{PAGE} is written\n")


if __name__ == "__main__":
    main()
