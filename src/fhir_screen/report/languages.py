"""The languages of the reports, by the name that `--lang` takes."""

from __future__ import annotations

from typing import Final

from fhir_screen.report.english import ENGLISH
from fhir_screen.report.korean import KOREAN

LANGUAGES: Final = {one.lang: one for one in (ENGLISH, KOREAN)}
