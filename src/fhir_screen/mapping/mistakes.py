"""Goes on after a mistake, so that one run tells of all that can be told of (`fhir-screen check`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fhir_screen.errors import MappingError, Mistakes


class Collected:
    """Mistakes in parts that do not hang on each other."""

    def __init__(self) -> None:
        self._found: list[MappingError] = []

    @contextmanager
    def part(self) -> Iterator[None]:
        """One part: a mistake in it is kept, and the next part is looked at all the same."""
        try:
            yield
        except Mistakes as several:
            self._found += several.found
        except MappingError as one:
            self._found.append(one)

    def tell(self) -> None:
        """Raises what was found, each mistake once, in the order of files and lines in which it came."""
        found = list({(one.where, one.what): one for one in self._found}.values())
        if len(found) == 1:
            raise found[0]
        if found:
            raise Mistakes(found)
