"""The documentation is true: its examples load, its tables are current, its links lead somewhere, its commands run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from pydantic import BaseModel

import clinical_table
import module_table
import readme_output
from fhir_screen import errors
from fhir_screen.cli import cli
from fhir_screen.cli.exits import DEFECT, INTERRUPTED
from fhir_screen.core.gaps import Gap
from fhir_screen.core.truth import Truth
from fhir_screen.mapping import documents
from fhir_screen.mapping.anchors import load_anchors
from fhir_screen.mapping.load import Study, load, packaged_mappings
from fhir_screen.mapping.rules import VERBS
from fhir_screen.mapping.yamlfile import read_yaml
from fhir_screen.settings import settings

ROOT = Path(__file__).parents[1]
MANUAL = ROOT / "docs" / "writing-a-trial.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

_BLOCK = re.compile(
    r"^```yaml\n# (?P<kind>file|added to|rules|rule|derived|criterion)(?:: (?P<name>\S+))?\n(?P<text>.*?)^```",
    re.M | re.S,
)


@dataclass(frozen=True, slots=True)
class Example:
    """One YAML block of the manual; ``kind`` says what it is, ``name`` which file."""

    kind: str
    name: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"line-{self.line}-{self.name or self.kind}"


def _examples() -> Iterator[Example]:
    text = MANUAL.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        yield Example(match["kind"], match["name"] or "", match["text"], text.count("\n", 0, match.start()) + 1)


EXAMPLES = list(_examples())


@pytest.fixture(scope="module")
def mappings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged mappings with all files of the manual in them."""
    folder = tmp_path_factory.mktemp("manual") / "mappings"
    shutil.copytree(packaged_mappings(), folder)
    for example in EXAMPLES:
        if example.kind == "file":
            (folder / example.name).write_text(example.text, encoding="utf-8")
        elif example.kind == "added to":
            _write(
                folder / example.name,
                _laid_over(_content(folder, folder / example.name), _parsed(folder, example.text)),
            )
    return folder


def _parsed(folder: Path, text: str) -> Any:
    scratch = folder.parent / "scratch.yaml"
    scratch.write_text(text, encoding="utf-8")
    return read_yaml(scratch).content


def _content(folder: Path, path: Path) -> Any:
    return _parsed(folder, path.read_text(encoding="utf-8"))


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def _laid_over(below: Any, above: Any) -> Any:
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        return {**below, **{key: _laid_over(below.get(key), value) for key, value in above.items()}}
    return above


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.kind in ("file", "added to")], ids=str)
def test_a_file_of_the_manual_loads_with_the_packaged_mappings(example: Example, mappings: Path) -> None:
    if example.name == "anchors.yaml":
        anchors = load_anchors(mappings / example.name)
        assert anchors.of("p1").keys() == {"screening_date", "consent_date", "planned_infusion_date"}
    elif example.name.startswith("sites/"):
        study = load(mappings, mappings / "sites" / "north.yaml")
        assert (study.site.id, study.trials[0].parameters["hba1c_validity_days"]) == ("north", "90")
    else:
        assert [trial.id for trial in load(mappings, trials=["NCT00000000"]).trials] == ["NCT00000000"]


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.kind not in ("file", "added to")], ids=str)
def test_a_part_of_the_manual_loads_inside_a_trial(example: Example, mappings: Path) -> None:
    around = mappings / "trials" / "around.yaml"
    _write(around, _trial_around(example, _parsed(mappings, example.text)))
    try:
        (trial,) = load(mappings, trials=["NCT99999999"]).trials
    finally:
        around.unlink()
    assert trial.id == "NCT99999999"


def _trial_around(example: Example, content: Any) -> dict[str, Any]:
    derived = content if example.kind == "derived" else {}
    rules = _rules_in(example, content)
    atoms = {"EX-A": {"text": "a", "class": "automatic", "rule": {"sex": "male"}}}
    atoms |= {f"EX-{n}": {"text": "x", "class": "automatic", "rule": rule} for n, rule in enumerate(rules)}
    criteria = {"EX": {"role": "inclusion", "text": "x", "logic": {"all": list(atoms)}, "atoms": atoms}}
    return {
        "trial": {"id": "NCT99999999", "title": "x", "status": "recruiting"},
        "version": "1",
        "population": "EX-A",
        "parameters": _parameters_of_the_packaged_trials(),
        "derived": derived,
        "criteria": criteria | ({"CR": content} if example.kind == "criterion" else {}),
    }


def _rules_in(example: Example, content: Any) -> list[Any]:
    match example.kind:
        case "rule":
            return [content]
        case "rules":
            return list(content)
        case "derived":
            return [{"measure": {"derived": name, "needed": f">= 1 {d['unit']}"}} for name, d in content.items()]
        case _:
            return []


def _parameters_of_the_packaged_trials() -> dict[str, Any]:
    trials = [read_yaml(path).content["parameters"] for path in sorted((packaged_mappings() / "trials").glob("*.yaml"))]
    return {name: {**parameter, "without_effect": "yes"} for trial in trials for name, parameter in trial.items()}


def test_every_yaml_block_of_the_manual_is_loaded() -> None:
    assert MANUAL.read_text(encoding="utf-8").count("```yaml\n") == len(EXAMPLES)


def test_the_manual_shows_every_key_of_every_document(mappings: Path) -> None:
    shown = {key for example in EXAMPLES for key in _keys(_parsed(mappings, example.text))}
    assert _known_keys() - shown == set()


def test_the_manual_shows_every_verb_by_example(mappings: Path) -> None:
    shown = {key for example in EXAMPLES for key in _keys(_parsed(mappings, example.text))}
    assert set(VERBS) - shown == set()


def test_the_manual_names_every_word_that_a_key_may_have() -> None:
    text = MANUAL.read_text(encoding="utf-8")
    words = {
        word for model in _models() for field in model.model_fields.values() for word in _literals(field.annotation)
    }
    assert {word for word in words if word and not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text)} == set()


def _models() -> list[type[BaseModel]]:
    found = [value for value in vars(documents).values() if isinstance(value, type) and issubclass(value, BaseModel)]
    return [model for model in found if model not in (BaseModel, documents.Doc)]


def _known_keys() -> set[str]:
    return {field.alias or name for model in _models() for name, field in model.model_fields.items()}


def _literals(annotation: Any) -> Iterator[str]:
    for argument in get_args(annotation):
        if isinstance(argument, str):
            yield argument
        else:
            yield from _literals(argument)


def _keys(content: Any) -> Iterator[str]:
    if isinstance(content, Mapping):
        yield from content
    for part in content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ():
        yield from _keys(part)


# --- clinical.md --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study() -> Study:
    return load()


def test_the_tables_for_clinicians_are_those_of_the_compiled_trials(study: Study) -> None:
    page = clinical_table.PAGE.read_text(encoding="utf-8")
    assert page == clinical_table.written(page, study), "run: python tests/clinical_table.py"


def test_what_could_not_be_read_to_the_end_is_never_taken_for_a_no(study: Study) -> None:
    for trial in study.trials:
        decision = clinical_table.silent(study, trial, Gap(None, detail="a page was lost"))
        taken = {a.id for c in decision.criteria for a in c.atoms if a.answer.truth is Truth.FALSE}
        assert taken == set()


def test_every_parameter_is_explained_to_clinicians_with_its_default_and_its_choices() -> None:
    rows = re.findall(
        r"^\| (\w+) \| ((?:TIL|NK| )+) \| (\S+) \| ([^|]+) \| [^|]{20,} \|$", _page("docs/clinical.md"), re.M
    )
    told = {
        (trial, name, default, others.strip()) for name, trials, default, others in rows for trial in trials.split()
    }
    assert told == set(_parameters())


def _parameters() -> Iterator[tuple[str, str, str, str]]:
    for path in sorted((packaged_mappings() / "trials").glob("*.yaml")):
        content = read_yaml(path).content
        short = next(iter(content["criteria"])).split("-")[0]
        for name, parameter in content["parameters"].items():
            others = ", ".join(c for c in parameter.get("choices", []) if c != parameter["default"]) or "none"
            if "choices" not in parameter:
                others = "years" if name.endswith("_age") else "days"
            yield short, name, parameter["default"], others


def _page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# --- decisions.md -------------------------------------------------------------------------------------------------


def test_every_rule_that_a_comment_cites_is_written_down() -> None:
    written = set(re.findall(r"^\| \*\*(R\d+)\*\*", (ROOT / "docs" / "rules.md").read_text(encoding="utf-8"), re.M))
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "mappings").rglob("*.yaml"), *(ROOT / "tests").rglob("*.py"), *PAGES]
    cited = {rule for path in sources for rule in re.findall(r"\bR(?:[1-9]|[12]\d)\b", path.read_text(encoding="utf-8"))}
    assert len(written) == 19
    assert sorted(cited - written) == []


def test_codes_from_memory_are_listed_to_be_looked_up() -> None:
    counted: dict[str, int] = {}
    for path in sorted((packaged_mappings() / "concepts").glob("*.yaml")):
        for name, concept in read_yaml(path).content["concepts"].items():
            rows = sum("memory" in row[3].split() for row in concept.get("codes") or ())
            counted |= {name: rows} if rows else {}
    assert {name: int(rows) for name, rows in _rows(r"^\| ([a-z-]+) \| (\d+) \|")} == counted


def test_every_dependency_says_what_it_saves() -> None:
    project = tomllib.loads(_page("pyproject.toml"))["project"]
    packages = {re.split(r"[<>=]", one)[0] for one in project["dependencies"]}
    assert {name for (name,) in _rows(r"^\| ([\w.-]+) \| [^|\d][^|]+ \|$")} - {"concept", "package"} == packages


def _rows(pattern: str) -> Iterator[tuple[str, ...]]:
    return (match.groups() for match in re.finditer(pattern, _page("docs/decisions.md"), re.M))


# --- architecture.md ----------------------------------------------------------------------------------------------


def test_the_table_of_modules_is_that_of_the_source_tree() -> None:
    page = module_table.PAGE.read_text(encoding="utf-8")
    assert page == module_table.written(page), "run: python tests/module_table.py"


@pytest.mark.parametrize(
    ("package", "door"),
    [
        ("requests", "fhir/connection"),
        ("yaml", "mapping/yamlfile"),
        ("jsonpath_ng", "mapping/paths"),
        ("fhir.resources", "fhir/writer"),
    ],
)
def test_each_outside_thing_has_the_one_door_that_the_page_names(package: str, door: str) -> None:
    imports = re.compile(rf"^\s*(?:import|from) {re.escape(package)}\b", re.M)
    source = module_table.SOURCE
    users = [p for p in source.rglob("*.py") if imports.search(p.read_text(encoding="utf-8"))]
    assert [user.relative_to(source).with_suffix("").as_posix() for user in users] == [door]
    assert f"`{package}` in\n`{door}`" in _page("docs/architecture.md").replace("` in `", "` in\n`")


# --- README.md ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shown:
    """A command of a page, and the lines under it."""

    page: str
    command: str
    output: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {self.command}"


def _commands() -> Iterator[Shown]:
    for page in PAGES:
        for block in re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
                command, *output = part.rstrip().split("\n")
                yield Shown(page.name, command.partition("   #")[0].strip(), tuple(output))


COMMANDS = list(_commands())


def test_the_commands_of_the_readme_say_what_it_shows() -> None:
    page = _page("README.md")
    assert COMMANDS[0].command.startswith("fhir-screen demo")
    assert page == readme_output.written(page), "run: make generate"


@pytest.mark.parametrize("shown", [c for c in COMMANDS if c.command.startswith("fhir-screen")], ids=str)
def test_a_command_and_its_options_exist(shown: Shown) -> None:
    _, name, *arguments = shlex.split(shown.command)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    options = {option for parameter in command.params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("-")} - options == set()


@pytest.mark.parametrize("target", sorted({c.command.split()[1] for c in COMMANDS if c.command.startswith("make ")}))
def test_a_target_of_make_exists(target: str) -> None:
    assert re.search(rf"^{target}:", _page("Makefile"), re.M)


def test_make_generate_runs_every_generator() -> None:
    """A generator is a script of the tests that is no test and writes a page of the documentation."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py")}
    scripts = {name for name, text in texts.items() if '\nif __name__ == "__main__":' in text}
    (named,) = re.findall(r"^GENERATORS := (.+)$", _page("Makefile"), re.M)
    assert sorted(named.split()) == sorted(name for name in scripts if '.md"' in texts[name])


def test_the_settings_of_the_readme_are_understood(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```", _page("README.md"), re.M | re.S)
    path = tmp_path / "fhir-screen.toml"
    path.write_text(text, encoding="utf-8")
    read = settings({}, path, {})
    assert (read.server, read.site) == ("https://fhir.hospital.example/r4", Path("/etc/fhir-screen/site.yaml"))


def test_the_readme_explains_every_exit_code() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    codes = {error.exit_code for error in classes if issubclass(error, errors.FhirScreenError)}
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", _page("README.md"), re.M)}
    assert told == codes | {0, 1, 5, DEFECT, INTERRUPTED}


# --- all pages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    inside = [link.partition("#") for link in links if "://" not in link and not link.startswith("mailto:")]
    lost = [name + mark + anchor for name, mark, anchor in inside if not _leads(page, name, anchor)]
    assert lost == []


def _leads(page: Path, name: str, anchor: str) -> bool:
    target = (page.parent / name) if name else page
    return target.exists() and (not anchor or anchor in _anchors(target))


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
