"""One hash of what in mapping documents may change an answer, so that a decision says by which rules it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from fhir_screen.mapping.yamlfile import Document


def digest_of(documents: Iterable[Document]) -> str:
    """One hash of what may change an answer: neither comments nor layout, and nothing that is only said of it."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(json.dumps(_telling(document.content), ensure_ascii=False).encode())
    return digest.hexdigest()


_SAID_OF_IT = frozenset({"about", "note", "text_ko", "ask_ko", "label"})


def _telling(content: Any) -> Any:
    match content:
        case dict():
            return {key: _telling(value) for key, value in content.items() if key not in _SAID_OF_IT}
        case list():
            return [_telling(value) for value in content]
        case _:
            return content
