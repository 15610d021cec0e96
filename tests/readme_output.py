"""Takes the outputs that README.md shows from the commands themselves, keeping the rows of a few sample patients."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "README.md"
SHOWN = ("sample-01", "sample-03", "sample-08", "sample-15", "sample-18")
LEFT_OUT = " …"

_BLOCK = re.compile(r"^```console\n\$ (?P<command>fhir-screen (?:demo|explain)[^\n#]*)\n.*?^```", re.M | re.S)


def output(command: str) -> list[str]:
    """What a `fhir-screen` command says on stdout, line by line."""
    program = [sys.executable, "-c", "from fhir_screen.cli import main; main()"]
    arguments = shlex.split(command)[1:]
    run = subprocess.run([*program, *arguments], cwd=ROOT, capture_output=True, check=True, text=True, encoding="utf-8")
    return [line.rstrip() for line in run.stdout.split("\n")]


def excerpt(lines: Sequence[str]) -> Iterator[str]:
    """The head, the rows of SHOWN, and the sum at the end; what is indented deeper belongs to the row above."""
    keep, left_out = True, False
    for line in lines:
        if line.startswith(" sample-"):
            keep = line.split()[0] in SHOWN
        elif line and not line.startswith(" "):
            keep = True
        if keep and line:
            yield from [LEFT_OUT] if left_out else []
            yield line
        left_out = not keep


def with_outputs(page: str, blocks: re.Pattern[str], shown: Callable[[str], Iterable[str]]) -> str:
    """The page with what each command of these blocks says today, as far as it is ``shown``."""

    def block(match: re.Match[str]) -> str:
        return "\n".join(["```console", f"$ {match['command']}", *shown(match["command"].strip())]).rstrip() + "\n```"

    return blocks.sub(block, page)


def rewrite(path: Path, written: Callable[[str], str]) -> None:
    path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stderr.write(f"{path} is written\n")


def written(page: str) -> str:
    def shown(command: str) -> Iterable[str]:
        lines = output(command)
        return excerpt(lines) if command.startswith("fhir-screen demo") else lines

    return with_outputs(page, _BLOCK, shown)


if __name__ == "__main__":
    rewrite(PAGE, written)
