"""The shape of the code holds: one door for each outside thing, a pure core, and no medicine outside the mappings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fhir_screen.mapping.load import load, packaged_mappings
from fhir_screen.mapping.vocabulary import OF_THE_CORE
from fhir_screen.mapping.yamlfile import read_yaml

SOURCE = Path(__file__).parents[1] / "src" / "fhir_screen"
MODULES = {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text("utf-8")) for path in SOURCE.rglob("*.py")}

COMMANDS = {path for path in MODULES if path.startswith("cli/")}
"""The modules that talk to people."""

DOORS = {
    "requests": {"fhir/connection.py"},
    "urllib3": {"fhir/connection.py", "fhir/address.py"},
    "yaml": {"mapping/yamlfile.py"},
    "jsonpath_ng": {"mapping/paths.py"},
    "fhir": {"fhir/writer.py", "fhir/valuesets.py"},
    "click": COMMANDS,
    "tomllib": {"settings.py"},
    "sqlite3": set[str](),
    "subprocess": set[str](),
    "pickle": {"state/watch.py"},
    "random": set[str](),
}
"""Who alone may import what. A pickle is only what a process tells itself, in a file that has no name."""


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def attributes(tree: ast.AST) -> Iterator[str]:
    """Each `a.b` in the code, as text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def strings(tree: ast.AST) -> Iterator[str]:
    """All text of a module: constants, and so docstrings too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def using(*names: str) -> set[str]:
    return {path for path, tree in MODULES.items() if set(names) & set(attributes(tree))}


@pytest.mark.parametrize("package", sorted(DOORS))
def test_an_outside_thing_has_one_door(package: str) -> None:
    users = {
        path for path, tree in MODULES.items() if any(name.split(".")[0] == package for name in imports(tree))
    }
    assert users <= DOORS[package]


def test_what_is_written_is_r4_and_never_r5() -> None:
    names = {name for tree in MODULES.values() for name in imports(tree) if name.startswith("fhir.")}
    assert {name for name in names if not name.startswith("fhir.resources.R4B")} == set()


def test_the_environment_has_one_door() -> None:
    assert using("os.environ", "os.getenv") == {"settings.py"}


def test_only_the_command_line_knows_what_day_it_is() -> None:
    assert using("date.today", "datetime.now", "datetime.today", "datetime.utcnow", "time.time") <= COMMANDS


def test_only_the_command_line_writes_to_the_streams() -> None:
    assert using("sys.stdout", "sys.stderr") <= COMMANDS
    printing = {
        path for path, tree in MODULES.items() for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }  # fmt: skip
    assert printing == set()


def test_dates_are_parsed_in_one_place() -> None:
    parsing = re.compile(r"\.(fromisoformat|strptime)\b")
    found = {path for path in MODULES if parsing.search((SOURCE / path).read_text("utf-8"))}
    assert found <= {"core/dates.py"}


def test_the_core_is_the_standard_library_and_itself() -> None:
    allowed = {"fhir_screen", "__future__"}
    standard = {
        "abc", "bisect", "calendar", "collections", "dataclasses", "datetime", "decimal", "enum", "fractions",
        "functools", "hashlib", "itertools", "json", "math", "operator", "re", "typing", "unicodedata", "zoneinfo",
    }  # fmt: skip
    for path, tree in MODULES.items():
        if path.startswith("core/"):
            outside = {name for name in imports(tree) if name.split(".")[0] not in allowed | standard}
            assert outside == set(), path
            inside = {name for name in imports(tree) if name.startswith("fhir_screen.")}
            assert {n for n in inside if not n.startswith(("fhir_screen.core", "fhir_screen.errors"))} == set(), path


RUNNING = {"eval", "exec", "compile"}


def test_no_rule_is_ever_run_as_code() -> None:
    running = {
        path for path, tree in MODULES.items() for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RUNNING
    }  # fmt: skip
    assert running == set()


def test_nothing_is_swallowed_but_in_the_two_places_that_count_it() -> None:
    blind = {
        path for path, tree in MODULES.items() for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and {"", "Exception", "BaseException"} & set(caught(node)) and not goes_on(node)
    }  # fmt: skip
    assert blind == {"cli/main.py", "nightly.py"}


ENDING = {"UsageError", "NoInputError", "PreflightError", "SafetyStop", "TemporaryError", "NotWritable", "DuplicateIdentity"}


@pytest.mark.parametrize("path", sorted(path for path in MODULES if not path.startswith(("mapping/", "core/"))))
def test_an_error_says_what_to_do_about_it(path: str) -> None:
    """Mistakes in a mapping often are their own remedy, and are left to the eye."""
    made = [
        node for node in ast.walk(MODULES[path])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ENDING
    ]  # fmt: skip
    assert [one.lineno for one in made if "remedy" not in {keyword.arg for keyword in one.keywords}] == []


def goes_on(handler: ast.ExceptHandler) -> bool:
    """It tidies up and raises what it caught."""
    return any(isinstance(node, ast.Raise) and node.exc is None for node in ast.walk(handler))


def caught(handler: ast.ExceptHandler) -> Iterator[str]:
    """The names of what a handler catches, one or a tuple; "" where it catches everything."""
    match handler.type:
        case None:
            yield ""
        case ast.Tuple(elts=several):
            yield from map(ast.unparse, several)
        case one:
            yield ast.unparse(one)


@pytest.mark.parametrize("path", sorted(MODULES))
def test_a_module_opens_with_one_sentence(path: str) -> None:
    said = ast.get_docstring(MODULES[path])
    assert said
    first = said.partition("\n\n")[0]
    assert first.endswith(".")
    assert "\n" not in first


def test_no_trial_atom_or_parameter_of_a_trial_is_known_to_the_code() -> None:
    study = load()
    ids = {trial.id for trial in study.trials}
    for trial in study.trials:
        ids |= {c.id for c in trial.criteria} | {a.id for c in trial.criteria for a in c.atoms}
    found = {(path, one) for path, tree in MODULES.items() for text in strings(tree) for one in ids if one in text}
    assert found == set()


def test_the_concepts_that_the_code_knows_by_name_are_listed() -> None:
    concepts = load().terms.found_in
    readers = {path for path in MODULES if path.startswith(("core/", "mapping/")) and path != "mapping/vocabulary.py"}
    assert {text for path in readers for text in strings(MODULES[path]) if text in concepts} == OF_THE_CORE


def test_no_clinical_code_is_known_to_the_code() -> None:
    """Codes of three signs and less are words too, so only longer ones can be told from them."""
    codes: set[str] = set()
    for path in sorted((packaged_mappings() / "concepts").glob("*.yaml")):
        for concept in read_yaml(path).content["concepts"].values():
            codes |= {row[1] for row in concept.get("codes") or () if re.search(r"\d", row[1]) and len(row[1]) > 3}
    found = {(path, text) for path, tree in MODULES.items() for text in strings(tree) if text.strip() in codes}
    assert found == set()


def test_loinc_numbers_do_not_occur_in_the_code() -> None:
    loinc = re.compile(r"\b\d{3,5}-\d\b")
    found = {
        (path, match) for path, tree in MODULES.items() for text in strings(tree) for match in loinc.findall(text)
    }
    assert found == set()


def test_no_file_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "util", "common", "helpers", "helper", "misc", "tools", "base", "manager", "engine"}
    assert {path for path in MODULES if Path(path).stem in drawers} == set()


def test_nothing_of_ours_is_replaced_in_tests_by_a_mock() -> None:
    for path in Path(__file__).parent.rglob("*.py"):
        names = set(imports(ast.parse(path.read_text("utf-8"))))
        assert not any(name.startswith("unittest.mock") or name == "mock" for name in names), path
