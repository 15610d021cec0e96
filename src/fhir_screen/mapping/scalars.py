"""What a text stands for where every scalar is text: an exact fraction, or a day."""

from __future__ import annotations

from datetime import UTC, date
from fractions import Fraction

from fhir_screen.core.dates import Span


def fraction_of(text: str) -> Fraction | None:
    """"0.1", "1/88.42" or "5/0.75", exactly."""
    top, _, bottom = text.partition("/")
    try:
        return Fraction(top.strip()) / Fraction(bottom.strip() or 1)
    except (ValueError, ZeroDivisionError):
        return None


def day_of(text: str) -> date | None:
    """YYYY-MM-DD and nothing else."""
    span = Span.parse(text, UTC)
    return span.first if span and span.exact and span.moment is None and len(text) == 10 else None
