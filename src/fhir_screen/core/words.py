"""Words that betray an uncoded record: whole words, stems and endings, with the phrases that take a hit back (rule R14)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """Compiled once. "surg-" begins a word, "-ectomy" ends one, "-blastoma-" stands anywhere, "graft" is a whole word.

    Words of scripts without blanks between them (Korean) are found anywhere.
    """

    hit: re.Pattern[str]
    exempt: re.Pattern[str] | None

    @staticmethod
    def of(words: Iterable[str], but_not: Iterable[str] = ()) -> Words:
        exempt = [re.escape(phrase.lower()) for phrase in but_not]
        return Words(re.compile("|".join(map(_pattern, words))), re.compile("|".join(exempt)) if exempt else None)

    def find(self, texts: Iterable[str]) -> str | None:
        """The first word that is hit in one of the texts, or None."""
        for text in texts:
            lowered = text.lower()
            if self.exempt is not None and self.exempt.search(lowered):
                continue
            if match := self.hit.search(lowered):
                return match.group()
        return None


def _pattern(word: str) -> str:
    core = re.escape(word.lower().strip("-"))
    if not word.isascii():
        return core
    before = "" if word.startswith("-") else r"(?<![a-z])"
    after = "" if word.endswith("-") else r"(?:s|es)?(?![a-z])"
    return before + core + after
