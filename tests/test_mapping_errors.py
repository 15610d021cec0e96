"""Every mistake an author can make in a mapping is found at load, with file, line, path and what was probably meant."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from fhir_screen.errors import FhirScreenError, MappingError, Mistakes
from fhir_screen.mapping.anchors import load_anchors
from fhir_screen.mapping.load import load, packaged_mappings

HERE = Path(__file__).parent
MISTAKES: list[dict[str, str]] = yaml.load(
    (HERE / "mapping_mistakes.yaml").read_text(encoding="utf-8"), yaml.BaseLoader
)


@pytest.fixture
def mappings(tmp_path: Path) -> Path:
    folder = tmp_path / "mappings"
    shutil.copytree(HERE / "third_trial", folder)
    shutil.copy(packaged_mappings() / "resources.yaml", folder)
    return folder


def planted(mappings: Path, mistake: dict[str, str]) -> tuple[Path, str]:
    """Writes the mistake; the file, and the text that stood there before."""
    own = mistake["in"] in ("site.yaml", "anchors.yaml")
    path = mappings.parent / mistake["in"] if own else mappings / mistake["in"]
    if own:
        path.write_text(mistake["to"], encoding="utf-8")
        return path, ""
    before = path.read_text(encoding="utf-8")
    assert before.count(mistake["change"]) == 1, f"{before.count(mistake['change'])} x {mistake['change']!r}"
    path.write_text(before.replace(mistake["change"], mistake["to"]), encoding="utf-8")
    return path, before


def loaded(mappings: Path, path: Path) -> Any:
    if path.name == "anchors.yaml":
        return load_anchors(path)
    return load(mappings, path if path.name == "site.yaml" else None)


def line_of(path: Path, before: str, mistake: dict[str, str]) -> int:
    after = path.read_text(encoding="utf-8")
    if "line" in mistake:
        assert mistake["line"] in after
        return after.count("\n", 0, after.index(mistake["line"])) + 1
    pairs = zip(before.splitlines(), after.splitlines(), strict=False)
    return next(number for number, (old, new) in enumerate(pairs, start=1) if old != new)


def name_of(mistake: dict[str, str]) -> str:
    return f"{mistake['in']}:{mistake['says'] or 'fine'}"


@pytest.mark.parametrize("mistake", MISTAKES, ids=[name_of(m) for m in MISTAKES])
def test_a_mistake_is_told_with_its_place_and_a_remedy(mappings: Path, mistake: dict[str, str]) -> None:
    path, before = planted(mappings, mistake)
    if mistake.get("fine"):
        loaded(mappings, path)
        return
    with pytest.raises(FhirScreenError) as told:
        loaded(mappings, path)
    error = told.value
    where = mappings / mistake["file"] if "file" in mistake else path
    expected = f"{where}:{line_of(where, before, mistake)}" + (f", {mistake['at']}" if mistake.get("at") else "")
    assert mistake["says"] in error.what
    assert error.where == expected if mistake.get("at") else error.where.startswith(expected)
    assert error.remedy
    assert mistake.get("try", "") in error.remedy
    assert error.exit_code == 2


def test_a_file_that_is_missing_is_named(mappings: Path) -> None:
    (mappings / "units.yaml").unlink()
    with pytest.raises(MappingError, match="cannot be read") as told:
        load(mappings)
    assert told.value.where == str(mappings / "units.yaml")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"", "key 'units' is missing"),
        (b"- a\n", "should be `key: value` lines"),
        (b"units: {mg: []}\n---\nunits: {}\n", "is not YAML"),
        (b"units: {[a]: []}\n", "a key has to be a word"),
        (b"units: " + b"[" * 70 + b"]" * 70, "nested too deeply"),
        (b"# " + b"x" * 2_000_001, "larger than 2 MB"),
    ],
)
def test_a_file_that_is_no_mapping_at_all_is_named(mappings: Path, content: bytes, says: str) -> None:
    (mappings / "units.yaml").write_bytes(content)
    with pytest.raises(MappingError, match=says) as told:
        load(mappings)
    assert told.value.where.startswith(str(mappings / "units.yaml"))
    assert told.value.remedy


def test_the_unharmed_mappings_load(mappings: Path) -> None:
    assert [trial.id for trial in load(mappings).trials] == ["DIALIVER-3"]


def test_all_mistakes_of_parts_that_do_not_hang_together_are_told_at_once(mappings: Path) -> None:
    site = mappings.parent / "site.yaml"
    site.write_text(
        "time_zone: Nowhere\nstudies: [NCT1]\nparameters: {foo: \"1\", validity_days: soon}\nabsence_policy: {XX: closed}\n"
        "codes:\n  - {system: urn:x, code: A, concept: NAME-IT}\n  - {system: urn:x, code: '', concept: hba1c}\n"
        "units: {foo: [bar]}\n",
        encoding="utf-8",
    )
    with pytest.raises(Mistakes) as told:
        load(mappings, site)
    lines = [one.where.partition(",")[0].rpartition(":")[2] for one in told.value.found]
    assert sorted(lines, key=int) == ["1", "2", "3", "3", "4", "6", "7", "8"]
    assert all(one.remedy for one in told.value.found)
    assert str(told.value).count("error: ") == 7
    assert str(told.value).endswith("8 mistakes")


def test_a_spelling_that_means_two_units_is_told_of_an_included_file_too(mappings: Path) -> None:
    (mappings.parent / "local.yaml").write_text("units: {mg: [mg/dL]}\n", encoding="utf-8")
    site = mappings.parent / "site.yaml"
    site.write_text("include: local.yaml\n", encoding="utf-8")
    with pytest.raises(MappingError, match="the spelling 'mg/dL' already means mg/dL") as told:
        load(mappings, site)
    assert told.value.where == f"{mappings.parent / 'local.yaml'}:1, units.mg[0]"


def test_mistakes_in_two_criteria_are_both_told(mappings: Path) -> None:
    trial = mappings / "trials" / "DIALIVER.yaml"
    text = trial.read_text("utf-8")
    wrong = text.replace("find: type-2-diabetes, review", "find: type-2-diabetis, review").replace("before: enrolment_date", "before: enrolled", 1)
    trial.write_text(wrong, encoding="utf-8")
    with pytest.raises(Mistakes) as told:
        load(mappings)
    assert {"type-2-diabetis", "enrolled"} <= {one.what.split("'")[1] for one in told.value.found}


def test_a_comment_is_no_change_of_the_mapping_and_another_default_is_one(mappings: Path) -> None:
    trial = mappings / "trials" / "DIALIVER.yaml"
    text = trial.read_text("utf-8")

    def digest(changed: str) -> str:
        trial.write_text(changed, encoding="utf-8")
        return load(mappings).trials[0].identity.mapping_digest

    same = {digest(text), digest("# signed\n" + text), digest(text.replace("a result counts", "a value counts"))}
    assert len(same) == 1
    assert digest(text.replace("90", "91")) not in same


def test_a_mistake_in_a_shared_rule_is_told_where_the_rule_stands(mappings: Path) -> None:
    (mappings / "rules").mkdir()
    shared = mappings / "rules" / "shared.yaml"
    shared.write_text("rules:\n  skin:\n    instance_is: {find: $what}\n", encoding="utf-8")
    trial = mappings / "trials" / "DIALIVER.yaml"
    text = trial.read_text(encoding="utf-8").replace(
        "{instance_is: {find: basal-cell-carcinoma}}", "{use: {rule: skin}}"
    )
    trial.write_text(text, encoding="utf-8")
    with pytest.raises(MappingError, match=r"unknown parameter \$what") as told:
        load(mappings)
    assert told.value.where.startswith(f"{shared}:3, rules.skin")


def test_an_argument_that_a_shared_rule_does_not_have_is_told_where_it_is_handed_over(mappings: Path) -> None:
    (mappings / "rules").mkdir()
    (mappings / "rules" / "shared.yaml").write_text("rules:\n  skin:\n    instance_is: {find: $what}\n", encoding="utf-8")
    trial = mappings / "trials" / "DIALIVER.yaml"
    before = "{instance_is: {find: basal-cell-carcinoma}}"
    handed = "{use: {rule: skin, with: {what: basal-cell-carcinoma, waht: cancer}}}"
    trial.write_text(trial.read_text(encoding="utf-8").replace(before, handed), encoding="utf-8")
    with pytest.raises(MappingError, match="shared rule 'skin' has no argument 'waht'") as told:
        load(mappings)
    assert told.value.where.endswith("criteria.E04.atoms.E04b.rule.use.with.waht")
    assert told.value.remedy == "did you mean 'what'?"


def test_a_shared_rule_that_uses_itself_is_an_error(mappings: Path) -> None:
    (mappings / "rules").mkdir()
    (mappings / "rules" / "shared.yaml").write_text("rules:\n  skin: {not: {use: skin}}\n", encoding="utf-8")
    trial = mappings / "trials" / "DIALIVER.yaml"
    text = trial.read_text(encoding="utf-8").replace("{instance_is: {find: basal-cell-carcinoma}}", "{use: skin}")
    trial.write_text(text, encoding="utf-8")
    with pytest.raises(MappingError, match="uses itself"):
        load(mappings)


def test_an_unknown_trial_or_parameter_is_told_with_what_was_meant(mappings: Path) -> None:
    with pytest.raises(FhirScreenError, match="no trial 'DIALIVER-2'") as trial:
        load(mappings, trials=["DIALIVER-2"])
    assert "did you mean 'DIALIVER-3'?" in trial.value.remedy
    with pytest.raises(FhirScreenError, match="has a parameter 'range_factr'") as parameter:
        load(mappings, settings={"range_factr": "3"})
    assert "did you mean 'range_factor'?" in parameter.value.remedy
