"""What people and scripts read says exactly what was decided, runs nothing, and loads nothing."""

from __future__ import annotations

import csv as stdlib_csv
import io
import json
import re
from dataclasses import fields, replace
from datetime import date
from html import escape
from html.parser import HTMLParser
from typing import Any

import pytest

from decisions import ALPHA, BETA, BLOCKING, likely, refused, review
from fhir_screen.core.answers import unknown
from fhir_screen.core.decision import Change, Decision
from fhir_screen.core.truth import Reason, Truth
from fhir_screen.report import csv, explain, html, ndjson, table, wording
from fhir_screen.report.catalogue import Catalogue
from fhir_screen.report.english import ENGLISH
from fhir_screen.report.funnel import funnel
from fhir_screen.report.korean import KOREAN

EVIL = "<script>alert(1)</script> & \"more\""


def with_text(decision: Decision, text: str) -> Decision:
    first, *others = decision.criteria
    atom = replace(first.atoms[0], text=text, answer=replace(first.atoms[0].answer, because=text))
    return replace(decision, criteria=(replace(first, text=text, atoms=(atom,)), *others))


def test_a_line_has_the_fields_of_the_contract_in_their_order() -> None:
    (line,) = ndjson.render([refused("Patient/p1")])
    document = json.loads(line)
    assert line.endswith("\n")
    assert list(document) == [
        "schema", "trial", "trial_version", "patient", "as_of", "population", "verdict", "criteria", "next_change",
    ]  # fmt: skip
    assert document["schema"] == "fhir-screen/screening/1"
    assert document["criteria"][1] == {
        "id": "E01",
        "role": "exclusion",
        "truth": "true",
        "effect": "blocks",
        "flags": [],
        "atoms": [
            {
                "id": "E01",
                "class": "automatic",
                "truth": "true",
                "reason": None,
                "flags": [],
                "evidence_kind": "positive",
                "because": "takes pills since 2026-11-01",
                "evidence": [
                    {
                        "reference": "MedicationRequest/rx1",
                        "version": "1",
                        "code": "http://example.org|rx",
                        "value": "",
                        "date": "2026-11-01",
                    }
                ],
                "changes_on": None,
                "changes_to": None,
            }
        ],
    }


def test_blocked_by_stands_at_the_top_level_of_whoever_is_blocked() -> None:
    (line,) = ndjson.render([replace(refused(), blocked_by="deceased")])
    assert json.loads(line)["blocked_by"] == "deceased"


def test_not_applicable_and_reasons_are_words() -> None:
    first, second = (json.loads(line) for line in ndjson.render([likely(), review()]))
    assert [c["truth"] for c in first["criteria"]] == ["true", "false", "not-applicable", "unknown"]
    assert first["criteria"][3]["atoms"][0]["reason"] == "manual"
    assert second["criteria"][0]["atoms"][0]["reason"] == "stale"
    assert second["criteria"][0]["atoms"][0]["flags"] == ["stale"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", " =", "＝"])
def test_no_cell_starts_a_formula(start: str) -> None:
    decision = with_text(review(f"{start}cmd"), f"{start}SUM(1)")
    rows = list(stdlib_csv.DictReader(io.StringIO("".join(csv.render([decision])), newline="")))
    assert rows[0]["patient"] == f"'{start}cmd"
    assert not any(cell.lstrip().startswith(("=", "+", "-", "@", "＝")) for cell in rows[0].values())


def test_a_spreadsheet_gets_a_row_for_each_decision_with_ids_of_what_blocks() -> None:
    text = "".join(csv.render([refused("p1"), likely("p2", BETA)]))
    rows = list(stdlib_csv.DictReader(io.StringIO(text, newline="")))
    assert [(row["trial"], row["patient"], row["verdict"], row["blocking"]) for row in rows] == [
        ("ALPHA-1", "p1", "not-eligible", "E01"),
        ("BETA-2", "p2", "likely-eligible", ""),
    ]


class Inert(HTMLParser):
    """Refuses whatever a page could run or load."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "iframe", "img", "link", "object", "embed", "form", "base"}
        for name, value in attrs:
            assert not name.startswith("on")
            assert name not in {"src", "srcset", "action", "style"}
            assert name != "href" or str(value).startswith("#")


@pytest.mark.parametrize("render", [html.render, lambda found: html.render_note([(one, {}) for one in found])])
def test_a_page_runs_and_loads_nothing_whatever_the_data_say(render: object) -> None:
    assert callable(render)
    page = "".join(render([with_text(review(f"p{EVIL}", replace(ALPHA, title=EVIL)), EVIL)]))
    Inert().feed(page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "@import" not in page
    assert "url(" not in page


def test_a_page_names_who_needs_a_person_before_who_is_out() -> None:
    page = "".join(html.render([refused("Patient/a"), review("Patient/b"), likely("Patient/c")]))
    assert page.index("Patient/c") < page.index("Patient/b") < page.index("Patient/a")


def test_a_table_says_why_in_the_protocols_words_and_what_comes_next() -> None:
    text = "".join(table.render([refused("Patient/p1"), likely("Patient/p2")], table.Paper(120)))
    assert "E01 in the protocol's words" in text
    assert "nothing, unless the record changes" in text
    assert "ALPHA-1: 1 likely eligible, 0 needs review, 1 not eligible" in text
    assert "\x1b" not in text


def test_an_empty_table_says_so() -> None:
    assert list(table.render([], table.Paper())) == ["Nobody here is in the population of these trials.\n"]


def test_a_note_gives_words_answer_value_date_and_source() -> None:
    text = "\n".join(explain.note(refused("Patient/p1"), {"consent_date": date(2026, 10, 1)}))
    assert "not eligible: E01 blocks." in text
    assert "Known dates: consent date 2026-10-01" in text
    assert "“Hemoglobin ≥ 9.0 g/dL”" in text
    assert "I01 – yes: hemoglobin 9.7 g/dL on 2026-11-14, 9.0 g/dL or more needed" in text
    assert "9.7 g/dL, 2026-11-14, http://example.org|hb, Observation/hb1 version 2" in text


def test_a_note_on_one_criterion_is_silent_about_the_others() -> None:
    text = "\n".join(explain.note(refused(), {}, "E01"))
    assert "E01 (exclusion, must not hold): holds" in text
    assert "I01" not in text


def test_a_note_says_when_time_alone_changes_an_answer() -> None:
    decision = review()
    atom = replace(decision.criteria[0].atoms[0], change=Change(date(2026, 12, 1), Truth.UNKNOWN))
    decision = replace(decision, criteria=(replace(decision.criteria[0], atoms=(atom,)),))
    text = " ".join(" ".join(explain.note(decision, {})).split())
    assert "To settle it: the last value is too old; a new one would settle it." in text
    assert "By time alone the answer becomes “not known” on 2026-12-01." in text


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_words_for_what_would_settle_it(reason: Reason) -> None:
    open_atom = replace(review().criteria[0].atoms[0], answer=unknown(reason, "so"))
    assert wording.settles(open_atom, ENGLISH) == ENGLISH.settles[reason]


@pytest.mark.parametrize("truth", [None, *Truth])
def test_every_truth_has_a_word(truth: Truth | None) -> None:
    assert ENGLISH.answer[truth] in {"yes", "no", "not known", "does not apply"}


def test_an_unknown_that_changes_nothing_is_no_open_question() -> None:
    blocked = BLOCKING[1]
    idle = replace(blocked.atoms[0], id="E01b", answer=unknown(Reason.NO_DATA, "nothing on record"))
    decision = replace(refused(), criteria=(replace(blocked, atoms=(*blocked.atoms, idle)),))
    assert wording.questions(decision) == 0


def test_the_next_step_of_the_deceased_is_none() -> None:
    assert wording.next_step(replace(refused(), blocked_by="deceased"), ENGLISH) == "nothing: deceased"


def test_the_next_step_of_a_refusal_that_ends_is_its_day() -> None:
    blocked = BLOCKING[1]
    ending = replace(blocked, atoms=(replace(blocked.atoms[0], change=Change(date(2026, 12, 24), Truth.FALSE)),))
    assert wording.next_step(replace(refused(), criteria=(ending,)), ENGLISH) == "look again on 2026-12-24"


def test_long_words_are_cut_between_words() -> None:
    assert wording.shortened("one two three four", 12) == "one two …"


HANGUL = re.compile("[가-힣]")


def with_korean(decision: Decision) -> Decision:
    """The decision with one question that a person has to answer, in both languages."""
    first = decision.criteria[0]
    asked = replace(
        first.atoms[0], answer=unknown(Reason.MANUAL, "a person has to answer"), asked=True,
        question="Is it so?", question_ko="그렇습니까?",
    )  # fmt: skip
    return replace(decision, criteria=(replace(first, atoms=(asked,), text_ko="기준의 이름", open_question=True),))


@pytest.mark.parametrize(
    "told",
    [
        lambda one: table.render([one], table.Paper(140), KOREAN),
        lambda one: csv.render([one], KOREAN),
        lambda one: html.render([one], KOREAN),
        lambda one: html.render_note([(one, {})], None, KOREAN),
        lambda one: explain.note(one, {}, None, KOREAN),
    ],
)
def test_in_korean_verdict_question_and_label_are_korean_and_the_protocol_keeps_its_words(told: Any) -> None:
    decision = with_korean(review("Patient/p1"))
    text = "\n".join(told(decision))
    assert "검토 필요" in text
    assert "그렇습니까?" in text
    assert "Is it so?" not in text
    assert "needs review" not in text
    assert "기준의 이름" in text
    assert "in the protocol" in text


def test_a_question_without_a_translation_is_asked_as_it_stands() -> None:
    atom = replace(with_korean(review()).criteria[0].atoms[0], question_ko="")
    assert wording.settles(atom, KOREAN) == "Is it so?"


def test_a_spreadsheet_in_korean_starts_with_the_mark_by_which_it_reads_hangul() -> None:
    assert next(csv.render([], KOREAN)).startswith("\ufeff임상시험,")
    assert next(csv.render([])).startswith("trial,")


def test_a_page_says_in_which_language_it_is() -> None:
    assert '<html lang="ko">' in "".join(html.render([review()], KOREAN))
    assert '<html lang="en">' in "".join(html.render([review()]))


def test_words_are_filled_in_with_the_same_values_in_every_language() -> None:
    """A sentence that forgets a value, or asks for another, would lose it or fail before a reader."""
    for field in fields(Catalogue):
        english, korean = getattr(ENGLISH, field.name), getattr(KOREAN, field.name)
        if isinstance(english, str):
            assert set(re.findall(r"{\w+}", korean)) == set(re.findall(r"{\w+}", english)), field.name
            if field.name not in {"lang", "csv_start", "last_of_list", "sums", "note_title"}:
                assert HANGUL.search(korean), field.name


def test_a_language_without_a_word_is_refused() -> None:
    with pytest.raises(ValueError, match="no word for"):
        replace(KOREAN, settles={})


def test_korean_words_are_no_part_of_what_is_unchanged() -> None:
    decision = review()
    atom = replace(decision.criteria[0].atoms[0], text_ko="이름", question_ko="질문")
    spoken = replace(decision, criteria=(replace(decision.criteria[0], atoms=(atom,), text_ko="기준"),))
    assert spoken.digest == decision.digest
    assert list(ndjson.render([spoken])) == list(ndjson.render([decision]))


def test_a_page_tells_who_waits_then_the_list_then_the_funnel() -> None:
    page = "".join(html.render([refused("Patient/a"), review("Patient/b")]))
    headings = [ENGLISH.first_heading, ENGLISH.list_heading, ENGLISH.funnel_heading]
    places = [page.index(f"<h2>{escape(heading)}</h2>") for heading in headings]
    assert places == sorted(places)
    assert "Patient/a" not in page[places[0] : places[1]]
    assert "Patient/b" in page[places[0] : places[1]]


def test_the_funnel_counts_what_the_lines_say() -> None:
    found = [refused("a"), refused("b"), likely("c"), replace(refused("d"), blocked_by="deceased")]
    lines = [json.loads(line) for line in ndjson.render(found)]
    counted = funnel(found)
    assert (counted.candidates, counted.blocked) == (4, 1)
    for step in counted.steps:
        effects = [c["effect"] for line in lines for c in line["criteria"] if c["id"] == step.criterion.id]
        assert (step.out, step.open) == (effects.count("blocks"), effects.count("undetermined"))
    assert [(step.alone, step.remain) for step in counted.steps] == [(0, 3), (2, 1), (0, 1), (0, 1)]
