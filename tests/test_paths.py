"""A compiled path finds exactly what `jsonpath-ng` finds, on any JSON; what no night should trust is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fhir_screen.mapping.load import packaged_mappings
from fhir_screen.mapping.paths import PathError, compiled, parsed
from fhir_screen.mapping.yamlfile import read_yaml

NAMES = ("code", "value", "url", "x-y", "0")
SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["x", "y", "", "1"])
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=25,
)
DOCUMENTS = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=5)
FIELDS = st.sampled_from([".code", ".value", ".url", ".'x-y'", ".*", ".code,value", ".'0'"])
LISTS = st.sampled_from(["[*]", "[0]", "[1]", "[-1]", "[7]", "[0,2]", "[0:2]", "[1:]", "[:1]", "[::2]", "[-2:]"])
FILTERS = st.sampled_from(
    [
        "[?(@.url == 'x')]",
        "[?(@.url = 'y')]",
        "[?(@.value == 1)]",
        "[?(@.code)]",
        "[?(@.url == 'x' && @.value == 'y')]",
        "[?(@.code.url == 'x')]",
    ]
)
PATHS = st.lists(FIELDS | LISTS | FILTERS, max_size=6).map(lambda steps: "$" + "".join(steps))


def plain(path: str, document: Any) -> list[Any]:
    return [match.value for match in parsed(path).find(document)]


def same(one: Any, other: Any) -> bool:
    """Equal, and of one type all the way down: 1 is not True."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    return type(one) is type(other) and bool(one == other)


@given(PATHS, DOCUMENTS)
@example("$.code[0]", {"code": {"code": 1}})
@example("$.code[*]", {"code": {"code": 1}})
@example("$.code[0]", {"code": "x"})
@example("$.code[0:1]", {"code": "xy"})
@example("$.code[*]", {"code": "xy"})
@example("$.code.*", {"code": [1, 2]})
@example("$.code[?(@.url == 'x')]", {"code": {"url": "x"}})
@example("$.code[?(@.value == 1)]", {"code": [{"value": True}, {"value": 1}, {"value": "1"}]})
def test_a_compiled_path_finds_what_the_library_finds(path: str, document: Any) -> None:
    found, expected = compiled(path)(document), plain(path, document)
    assert same(found, expected), (found, expected)


def shipped() -> Iterator[str]:
    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            if value.startswith("$"):
                yield value
        else:
            for part in value.values() if isinstance(value, dict) else value:
                yield from texts(part)

    yield from sorted(set(texts(read_yaml(packaged_mappings() / "resources.yaml").content)))


CODINGS = st.lists(
    st.fixed_dictionaries({}, optional={"system": st.just("s"), "code": st.sampled_from("ab")}), max_size=3
)
CONCEPTS = st.fixed_dictionaries({}, optional={"coding": CODINGS, "text": st.just("t")})
RESOURCES = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["final", "active"]),
        "code": CONCEPTS | st.just("oops"),
        "category": st.lists(CONCEPTS, max_size=2) | CONCEPTS,
        "extension": st.lists(
            st.fixed_dictionaries(
                {
                    "url": st.sampled_from(
                        ["http://hl7.org/fhir/StructureDefinition/condition-assertedDate", "urn:other"]
                    )
                },
                optional={"valueDateTime": st.just("2026")},
            ),
            max_size=3,
        ),
        "component": st.lists(st.fixed_dictionaries({"code": CONCEPTS}), max_size=2),
        "clinicalStatus": CONCEPTS,
        "dosage": st.lists(st.fixed_dictionaries({"route": CONCEPTS}), max_size=2)
        | st.fixed_dictionaries({"route": CONCEPTS}),
        "stage": st.lists(st.fixed_dictionaries({"summary": CONCEPTS}), max_size=2),
    },
)


@given(st.sampled_from(list(shipped())), RESOURCES)
def test_every_shipped_path_finds_what_the_library_finds(path: str, resource: Any) -> None:
    assert same(compiled(path)(resource), plain(path, resource))


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("$.a[?(@.b =~ '(x+x+)+y')]", "neither regular expressions nor '..' are allowed"),
        ("$..code", "neither regular expressions nor '..' are allowed"),
        ("$.a[?(@.b > 1)]", "only equality with a value is allowed in a filter"),
        ("$.a[?(@.b != 'x')]", "only equality with a value is allowed in a filter"),
        ("$.a + $.b", "is not allowed in a path"),
        ("$.a.`len`", "is not allowed in a path"),
        ("$.a.`parent`", "is not allowed in a path"),
        ("$.a[?($.b == 'x')]", "only equality with a value is allowed"),
        ("$.a[?(@.b == @.c)]", "only equality with a value is allowed"),
        ("$.a[?(!@.b)]", "only equality with a value is allowed"),
        ("$.a where $.b", "is not allowed in a path"),
        ("$.a[\\b]", "is not allowed in a path"),
        ("$.a[", "not a JSONPath"),
        ("$.a.`split(b)`", "not a JSONPath"),
        ("$.a.é", "not a JSONPath"),
        ("$.a[::0]", "a slice has to step forward or back"),
        ("", "not a JSONPath"),
        ("$." + "a" * 300, "longer than 300 characters"),
        ("$" + ".a" * 21, "more than 20 steps"),
    ],
)
def test_a_path_that_a_night_should_not_trust_is_refused(path: str, why: str) -> None:
    with pytest.raises(PathError, match=why.replace("(", r"\(").replace(".", r"\.")):
        compiled(path)
