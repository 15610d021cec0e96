"""Every module and the one thing that it knows, by its own first sentence; writes the table of docs/architecture.md."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "fhir_screen"
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
START, END = "<!-- generated: modules -->\n", "<!-- end: modules -->"


def written(page: str) -> str:
    """The page with the table as the source tree has it today."""
    before, _, rest = page.partition(START)
    return before + START + "\n".join(_table()) + "\n" + END + rest.partition(END)[2]


def _table() -> Iterator[str]:
    yield "| module | what it knows |"
    yield "|---|---|"
    for path in sorted(SOURCE.rglob("*.py"), key=lambda p: (len(p.relative_to(SOURCE).parts), p)):
        if path.name not in ("__init__.py", "__main__.py"):
            yield f"| `{path.relative_to(SOURCE).with_suffix('').as_posix()}` | {_sentence(path)} |"


def _sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].replace("|", "/")


def main() -> None:
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stderr.write(f"{PAGE} is written\n")


if __name__ == "__main__":
    main()
