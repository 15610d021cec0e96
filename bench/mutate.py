"""How many small mistakes in `core` the tests would notice: plants one at a time, runs the quick tests, counts survivors.

    PYTHONPATH=src:tests python bench/mutate.py [how many] [seconds in all]

A sample drawn with a fixed seed. Each mutant changes one comparison, boolean, number or sign of one function, whose code
is replaced in a forked child, so that nothing is written and mappings are loaded once. Only what runs while a patient is
screened is judged: a mistake in compiling mappings may go unseen here. A mutant dies of a failing test or of running
more than five minutes. Run it on a tree that is not being edited.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

ROOT = Path(__file__).parents[1]
CORE = ROOT / "src" / "fhir_screen" / "core"
QUICK = (
    "tests/test_meant_facts.py",
    "tests/test_truth.py",
    "tests/test_third_trial.py",
    "tests/test_conformance.py",
    "tests/test_anchors.py",
)
SLOW = ("tests/test_cases.py", "tests/test_laws.py")
PLAIN = ("-q", "-p", "no:cacheprovider", "--assert=plain")
SEED, PATIENCE = 20251115, 300

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
NAMES = {"TRUE": "UNKNOWN", "FALSE": "UNKNOWN", "UNKNOWN": "TRUE", "min": "max", "max": "min", "first": "last",
         "last": "first", "low": "high", "high": "low", "all": "any", "any": "all", "start": "end", "end": "start"}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    module: str
    function: str
    line: int
    told: str
    code: CodeType


@dataclass(frozen=True)
class Place:
    """Where a mistake can be planted: the nth node of a module, and which of its changes."""

    path: Path
    node: int
    change: int


def places() -> Iterator[Place]:
    for path in sorted(CORE.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for number, node in enumerate(ast.walk(tree)):
            if _function_around(tree, node):
                yield from (Place(path, number, change) for change, _ in enumerate(_changes(node)))


def planted(place: Place) -> Mutant:
    tree = ast.parse(place.path.read_text(encoding="utf-8"))
    node = list(ast.walk(tree))[place.node]
    told, change = list(_changes(node))[place.change]
    function, line = _function_around(tree, node), getattr(node, "lineno", 0)
    change(node)
    return Mutant(place.path.stem, function, line, told, _code(tree, place.path, function))


def _changes(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """What may be done to one node, in words and as a function."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in SWAPS:
            yield (
                f"{type(op).__name__} -> {SWAPS[type(op)].__name__}",
                lambda n: n.ops.__setitem__(0, SWAPS[type(n.ops[0])]()),
            )
        case ast.BoolOp(op=op) | ast.BinOp(op=op) if type(op) in SWAPS:
            yield f"{type(op).__name__} -> {SWAPS[type(op)].__name__}", lambda n: setattr(n, "op", SWAPS[type(n.op)]())
        case ast.UnaryOp(op=ast.Not()):
            yield (
                "without not",
                lambda n: setattr(n, "op", ast.Not()) or setattr(n, "operand", ast.UnaryOp(ast.Not(), n.operand)),
            )
        case ast.Constant(value=bool(value)):
            yield f"{value} -> {not value}", lambda n: setattr(n, "value", not n.value)
        case ast.Constant(value=int(value)):
            yield f"{value} -> {value + 1}", lambda n: setattr(n, "value", n.value + 1)
        case ast.Attribute(attr=name, ctx=ast.Load()) if name in NAMES:
            yield f".{name} -> .{NAMES[name]}", lambda n: setattr(n, "attr", NAMES[n.attr])
        case ast.Name(id=name, ctx=ast.Load()) if name in NAMES:
            yield f"{name} -> {NAMES[name]}", lambda n: setattr(n, "id", NAMES[n.id])
        case ast.If() | ast.IfExp():
            yield "condition turned", lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))


def _function_around(tree: ast.Module, target: ast.AST) -> str:
    """The dotted name of the outermost function that holds a node in its body."""
    for top in tree.body:
        inside = [(top, "")] if isinstance(top, ast.FunctionDef) else []
        if isinstance(top, ast.ClassDef):
            inside = [(f, f"{top.name}.") for f in top.body if isinstance(f, ast.FunctionDef)]
        for function, prefix in inside:
            if any(node is target for statement in function.body for node in ast.walk(statement)):
                return prefix + function.name
    return ""


def _code(tree: ast.Module, path: Path, function: str) -> CodeType:
    code = compile(ast.fix_missing_locations(tree), str(path), "exec")
    for name in function.split("."):
        code = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)
    return code


def _function(mutant: Mutant) -> FunctionType | None:
    found: Any = importlib.import_module(f"fhir_screen.core.{mutant.module}")
    for name in mutant.function.split("."):
        found = found.__dict__[name]
    found = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
    found = getattr(found, "__wrapped__", found)
    return found if isinstance(found, FunctionType) and found.__code__.co_freevars == mutant.code.co_freevars else None


def survives(mutant: Mutant, tests: tuple[str, ...], deselected: list[str]) -> bool:
    """Runs the tests in a child that has the mistake; True where they all pass."""
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        function = _function(mutant)
        if function is not None:
            function.__code__ = mutant.code
        os._exit(_tested(tests, deselected))
    _, status = os.waitpid(child, 0)
    return status == 0


def _tested(tests: tuple[str, ...], deselected: list[str]) -> int:
    import pytest

    options = ["-x", *PLAIN, *(f"--deselect={one}" for one in deselected)]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return int(pytest.main([*options, *tests]))


def prepare() -> None:
    """Loads the mappings once, and makes the generated charts the same for every mutant."""
    os.chdir(ROOT)
    os.environ["FHIR_SCREEN_EXAMPLES"] = "6"
    from hypothesis import settings

    settings.register_profile("mutants", derandomize=True, database=None)
    settings.load_profile("mutants")
    import generated
    import suites

    generated.study()
    suites.cases()


def failing(tests: tuple[str, ...]) -> list[str]:
    """Tests that fail without any mistake of ours; they are left out. Their run warms what the children inherit."""
    import pytest

    class Listener:
        failed: list[str] = []  # noqa: RUF012

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.failed:
                self.failed.append(report.nodeid)

    listener = Listener()
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main([*PLAIN, *tests], plugins=[listener])
    return listener.failed


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 150
    until = time.monotonic() + (float(sys.argv[2]) if len(sys.argv) > 2 else 1200)
    prepare()
    deselected = failing((*QUICK, *SLOW))
    print(f"{len(deselected)} tests fail already and are left out", flush=True)
    every = list(places())
    killed = tried = 0
    for place in random.Random(SEED).sample(every, len(every)):
        mutant = planted(place)
        if tried == count or time.monotonic() > until:
            break
        if _function(mutant) is None:
            continue
        tried += 1
        if survives(mutant, QUICK, deselected) and survives(mutant, SLOW, deselected):
            print(f"survived: {mutant.module}.py:{mutant.line} {mutant.function}: {mutant.told}", flush=True)
        else:
            killed += 1
            print(f"killed: {mutant.module}.py:{mutant.line} {mutant.function}: {mutant.told}", flush=True)
    print(f"{killed} of {tried} mutants killed ({100 * killed / max(tried, 1):.0f} %), of {len(every)} possible")
    return 0


if __name__ == "__main__":
    sys.exit(main())
