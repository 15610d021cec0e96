"""Takes the outputs that docs/site-mapping.md shows from the commands themselves; a line of "…" stands for some."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from readme_output import output, rewrite, with_outputs

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
    return with_outputs(page, _BLOCK, lambda command: excerpt([line for line in output(command) if line]))


if __name__ == "__main__":
    rewrite(PAGE, written)
