"""Words that betray an uncoded record, and the phrases that take a hit back (rule R14)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Words:
    """Compiled once. "surg-" begins a word, "-ectomy" ends one, "-blastoma-" stands anywhere, "graft" is a whole word;
    "brain + metasta-" hits where both stand in one text, in any order.

    Words of scripts without blanks between them (Korean) are found anywhere.
    """

    hit: re.Pattern[str]
    exempt: re.Pattern[str] | None
    together: tuple[tuple[re.Pattern[str], ...], ...] = ()
    known: dict[str, str | None] = field(default_factory=dict, compare=False, repr=False)
    """What was found in a text before: the same displays come with every patient."""

    @staticmethod
    def of(words: Iterable[str], but_not: Iterable[str] = ()) -> Words:
        listed = [word.split(" + ") for word in words]
        alone = "|".join(_pattern(parts[0]) for parts in listed if len(parts) == 1)
        together = tuple(tuple(re.compile(_pattern(part)) for part in parts) for parts in listed if len(parts) > 1)
        exempt = "|".join(_phrase(phrase) for phrase in but_not)
        return Words(re.compile(alone or _NOTHING), re.compile(exempt) if exempt else None, together)

    def find(self, texts: Iterable[str]) -> str | None:
        """The first word that is hit in one of the texts, or None."""
        for text in texts:
            if text not in self.known:
                if len(self.known) >= _REMEMBERED:
                    self.known.clear()
                self.known[text] = self._judged(text.lower())
            if found := self.known[text]:
                return found
        return None

    def _judged(self, text: str) -> str | None:
        return None if self.exempt is not None and self.exempt.search(text) else self._found(text)

    def _found(self, text: str) -> str | None:
        if match := self.hit.search(text):
            return match.group()
        for patterns in self.together:
            matches = [pattern.search(text) for pattern in patterns]
            if all(matches):
                return ", ".join(match.group() for match in matches if match)
        return None


_NOTHING = r"(?!)"
_REMEMBERED = 50_000


def _pattern(word: str) -> str:
    core = re.escape(word.lower().strip("-"))
    if not word.isascii():
        return core
    before = "" if word.startswith("-") else r"(?<![a-z])"
    after = "" if word.endswith("-") else r"(?:s|es)?(?![a-z])"
    return before + core + after


def _phrase(phrase: str) -> str:
    """A phrase that takes a hit back begins where a word begins: "not inhaled" is one, "uninhaled" is none."""
    text = re.escape(phrase.lower())
    return rf"(?<![a-z]){text}" if phrase[:1].isascii() and phrase[:1].isalpha() else text
