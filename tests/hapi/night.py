"""`make night`: two nights against a real HAPI server with the sample patients, and what the first one wrote."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

from server import running

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "sample_bundles"
FIRST, SECOND = "2025-11-15", "2025-11-16"
WRITTEN = ("Device", "ResearchStudy", "ResearchSubject", "Observation", "Provenance")


def night(base: str, day: str) -> None:
    say(f"\n$ fhir-screen run {base} --as-of {day}")
    program = Path(sys.executable).with_name("fhir-screen")
    subprocess.run([program, "run", base, "--as-of", day, "--no-state"], check=False)


def managed(base: str, kind: str) -> list[dict[str, object]]:
    """What is there with our tag, over all pages."""
    found: list[dict[str, object]] = []
    url: str | None = f"{base}/{kind}?_tag=https%3A%2F%2Ffhir-screen.org%2Ftag%7Cmanaged&_count=200"
    while url:
        request = urllib.request.Request(url, headers={"Accept": "application/fhir+json", "Cache-Control": "no-cache"})
        with urllib.request.urlopen(request) as answer:
            page = json.load(answer)
        found += [entry["resource"] for entry in page.get("entry", [])]
        url = next((link["url"] for link in page.get("link", []) if link["relation"] == "next"), None)
    return found


def versions(base: str) -> dict[str, str]:
    return {
        f"{kind}/{one['id']}": one["meta"]["versionId"]  # type: ignore[index]
        for kind in WRITTEN
        for one in managed(base, kind)
    }


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def main() -> None:
    with running(data=[SAMPLES]) as base:
        night(base, FIRST)
        before = versions(base)
        say("\nwritten: " + ", ".join(f"{sum(k.startswith(kind + '/') for k in before)} {kind}" for kind in WRITTEN))
        for subject in managed(base, "ResearchSubject"):
            say(f"  {subject['individual']['reference']}: {subject['status']}")  # type: ignore[index]
        night(base, SECOND)
        changed = {name for name, version in versions(base).items() if before.get(name) != version}
        say(f"\nthe second night made {len(changed)} new versions" + "".join(f"\n  {name}" for name in sorted(changed)))


if __name__ == "__main__":
    main()
