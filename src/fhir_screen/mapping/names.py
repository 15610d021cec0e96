"""What tests are called at sites, so that an unknown code can be told which atom it may concern; it decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fhir_screen.core.words import Words
from fhir_screen.mapping.documents import WordsDoc
from fhir_screen.mapping.validation import validated
from fhir_screen.mapping.vocabulary import CONCEPTS_LISTED, Terms
from fhir_screen.mapping.yamlfile import did_you_mean, read_yaml


def site_names(folder: Path, terms: Terms) -> Mapping[str, Words]:
    """By concept, from the mappings folder's `names.yaml`, which may be missing. Raises MappingError."""
    path = folder / "names.yaml"
    if not path.is_file():
        return {}
    document = read_yaml(path)
    listed = validated(WordsDoc, document)
    for concept in listed.words:
        if concept not in terms.found_in:
            remedy = did_you_mean(concept, terms.found_in) or CONCEPTS_LISTED
            raise document.error(f"unknown concept {concept!r}", ("words", concept), remedy)
    return {concept: Words.of(words, listed.but_not) for concept, words in listed.words.items()}
