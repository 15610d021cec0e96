"""Words that betray an uncoded record, and the phrases that take a hit back (rule R14).

A phrase takes back what it speaks of, and no more: "Breast cancer, found by screening" is a cancer, "benign" of one
finding says nothing of the next. Which hits a phrase reaches is written in the mapping, by three dots:

    phrase          whatever stands in the same part of a list ("steroid cream", "graft of the cornea")
    phrase ...      what follows it in the same clause ("family history of colon cancer")
    ... phrase      what stands directly before it ("breast cancer screening")
    =phrase         only a hit that is part of it ("beta block" is no block; what else the text says stays)

Where a hit proves something (a pathology report), the first two of them reach over the whole sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum


class Reach(Enum):
    """Which hits a phrase takes back; one that is itself part of the phrase always."""

    ITSELF = "no other"
    SENTENCE = "the whole sentence"
    REST_OF_SENTENCE = "what follows in the sentence"
    PART = "the same part of a list"
    AFTER = "what follows in the clause"
    BEFORE = "what stands directly before"


@dataclass(frozen=True, slots=True)
class TakesBack:
    """A phrase, compiled, and its reach."""

    pattern: re.Pattern[str]
    reach: Reach

    @staticmethod
    def of(phrase: str, part: Reach = Reach.PART, after: Reach = Reach.AFTER) -> TakesBack:
        if phrase.startswith(_ITSELF):
            return TakesBack(_phrase(phrase.removeprefix(_ITSELF).lstrip()), Reach.ITSELF)
        if phrase.endswith(_DOTS):
            return TakesBack(_phrase(phrase.removesuffix(_DOTS).rstrip(), r"(?![a-z-])"), after)
        if phrase.startswith(_DOTS):
            return TakesBack(_phrase(phrase.removeprefix(_DOTS).lstrip(), r"(?![a-z-])"), Reach.BEFORE)
        return TakesBack(_phrase(phrase), part)


@dataclass(frozen=True, slots=True)
class Words:
    """Compiled once. "surg-" begins a word, "-ectomy" ends one, "-blastoma-" stands anywhere, "graft" is a whole word;
    "brain + metasta-" hits where both stand in one text, in any order; "!phrase" is an exception of this list alone.

    Words of scripts without blanks between them (Korean) are found anywhere.
    """

    hits: tuple[tuple[re.Pattern[str], ...], ...]
    """Each alone, or several that have to stand together."""
    exceptions: tuple[TakesBack, ...] = ()
    known: dict[str, str | None] = field(default_factory=dict, compare=False, repr=False)
    """What was found in a text before: the same displays come with every patient."""

    @staticmethod
    def of(listed: Iterable[str], but_not: Iterable[str] = (), *, proving: bool = False) -> Words:
        words = list(listed)
        hits = [word.split(" + ") for word in words if not word.startswith("!")]
        alone = "|".join(_pattern(parts[0]) for parts in hits if len(parts) == 1)
        together = tuple(tuple(re.compile(_pattern(part)) for part in parts) for parts in hits if len(parts) > 1)
        own = [word[1:] for word in words if word.startswith("!")]
        wide = (Reach.SENTENCE, Reach.REST_OF_SENTENCE) if proving else (Reach.PART, Reach.AFTER)
        exceptions = tuple(TakesBack.of(phrase, *wide) for phrase in (*but_not, *own))
        return Words(((re.compile(alone),), *together) if alone else together, exceptions)

    def find(self, texts: Iterable[str]) -> str | None:
        """The first word that is hit in one of the texts, or None."""
        for text in texts:
            if text not in self.known:
                if len(self.known) >= _REMEMBERED:
                    self.known.clear()
                self.known[text] = self._found(text.lower())
            if found := self.known[text]:
                return found
        return None

    def _found(self, text: str) -> str | None:
        taken_back = list(self._exceptions(text))
        for patterns in self.hits:
            matches = [next(_left(pattern, text, taken_back), None) for pattern in patterns]
            if all(matches):
                return ", ".join(match.group() for match in matches if match)
        return None

    def _exceptions(self, text: str) -> Iterator[tuple[re.Match[str], Reach]]:
        for exception in self.exceptions:
            for match in exception.pattern.finditer(text):
                yield match, exception.reach


_Taken = list[tuple[re.Match[str], Reach]]


def _left(pattern: re.Pattern[str], text: str, exceptions: _Taken) -> Iterator[re.Match[str]]:
    """The hits that no exception takes back."""
    for hit in pattern.finditer(text):
        if not any(_takes_back(phrase, reach, hit, text) for phrase, reach in exceptions):
            yield hit


def _takes_back(phrase: re.Match[str], reach: Reach, hit: re.Match[str], text: str) -> bool:
    if phrase.start() < hit.end() and hit.start() < phrase.end():
        return True
    if abs(phrase.start() - hit.start()) > _FAR:
        return False
    between = text[phrase.end() : hit.start()] if phrase.end() <= hit.start() else text[hit.end() : phrase.start()]
    match reach:
        case Reach.ITSELF:
            return False
        case Reach.SENTENCE:
            return not _SENTENCE_ENDS.search(between)
        case Reach.REST_OF_SENTENCE:
            return phrase.end() <= hit.start() and not _SENTENCE_ENDS.search(between)
        case Reach.PART:
            return not _PART_ENDS.search(between)
        case Reach.AFTER:
            return phrase.end() <= hit.start() and not _CLAUSE_ENDS.search(between)
        case Reach.BEFORE:
            return hit.end() <= phrase.start() and _BARELY.fullmatch(between) is not None


_SENTENCE_ENDS = re.compile(r"[;\n]|\.(?=\s|$)")
_CLAUSE = r"[;:()\[\]\n,]|\.(?=\s|$)|\s[-–]\s|\b(?:with|but|mit|aber)\b|동반"
_CLAUSE_ENDS = re.compile(_CLAUSE)
_PART_ENDS = re.compile(rf"{_CLAUSE}|[/&+]|\b(?:and|or|after|following|for|und|oder|sowie|nach|bei|wegen)\b|및")
_BARELY = re.compile(r"[^\W\d_]*?(?:[\s,:–-]+(?:is|was|are|were|ist|sind|war|wurde|wurden|has been)\b)?[\s,:–-]*")
"""The rest of the word that was hit, a blank or a comma, a form of "to be", a particle."""
_DOTS, _ITSELF = "...", "="
_REMEMBERED = 50_000
_FAR = 400
"""So many signs on, no phrase speaks of a word any more; long reports hold many of both."""


def _pattern(word: str) -> str:
    core = re.escape(word.lower().strip("-"))
    if not word.isascii():
        return core
    before = "" if word.startswith("-") else r"(?<![a-z])"
    after = "" if word.endswith("-") else r"(?:s|es)?(?![a-z])"
    return before + core + after


def _phrase(phrase: str, end: str = "") -> re.Pattern[str]:
    """A phrase that takes a hit back begins where a word begins: "not inhaled" is one, "uninhaled" is none."""
    text = re.escape(phrase.lower()) + end
    return re.compile(rf"(?<![a-z]){text}" if phrase[:1].isascii() and phrase[:1].isalpha() else text)
