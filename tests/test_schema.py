"""What an editor is told about the documents is what the loader accepts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fhir_screen.mapping import rules
from fhir_screen.mapping.load import packaged_mappings
from fhir_screen.mapping.schema import DOCUMENTS, VERBS, json_schema
from fhir_screen.mapping.yamlfile import read_yaml
from tiny import mappings

PLACES = {
    "trial": "trials/*.yaml", "site": "sites/*.yaml", "concepts": "concepts/*.yaml", "rules": "rules/*.yaml",
    "systems": "systems.yaml", "analytes": "analytes.yaml", "units": "units.yaml", "words": "words.yaml",
    "resources": "resources.yaml",
}  # fmt: skip


def packaged() -> Iterator[tuple[str, Path]]:
    for name, pattern in PLACES.items():
        for path in sorted(packaged_mappings().glob(pattern)):
            yield name, path


def mistakes(name: str, document: Any) -> list[str]:
    return [error.json_path for error in jsonschema.Draft202012Validator(json_schema(name)).iter_errors(document)]


@pytest.mark.parametrize(("name", "path"), [pytest.param(*one, id=one[1].name) for one in packaged()])
def test_every_packaged_document_is_as_its_schema_says(name: str, path: Path) -> None:
    assert mistakes(name, read_yaml(path).content) == []


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_every_schema_is_one(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema(name))


def test_the_schema_knows_the_verbs_of_the_language() -> None:
    assert set(VERBS) == set(rules.VERBS)


@pytest.mark.parametrize(
    ("old", "new"),
    [("role: inclusion", "role: inklusion"), ("absent_means", "absent_mean"), ("{age:", "{aged:"), ("text:", "txt:")],
)
def test_a_mistake_is_marked(tmp_path: Path, old: str, new: str) -> None:
    text = (mappings(tmp_path / "m") / "trials" / "TINY-1.yaml").read_text("utf-8")
    assert mistakes("trial", yaml.safe_load(text)) == []
    assert mistakes("trial", yaml.safe_load(text.replace(old, new, 1))) != []


def test_texts_may_be_written_without_quotation_marks() -> None:
    anchors = {"default": {"consent_date": "2025-01-01"}}
    assert mistakes("anchors", anchors) == []
    assert mistakes("site", {"write_closed_studies": True, "parameters": {"lab_validity_days": 14}}) == []
