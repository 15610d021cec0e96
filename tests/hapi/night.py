"""`make night`: two nights against a real HAPI server with the sample patients, and what the first one wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from server import running
from written import WRITTEN, ours, versions

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "sample_bundles"
FIRST, SECOND = "2025-11-15", "2025-11-16"


def night(base: str, day: str) -> None:
    say(f"\n$ fhir-screen run {base} --as-of {day}")
    program = Path(sys.executable).with_name("fhir-screen")
    subprocess.run([program, "run", base, "--as-of", day, "--no-state"], check=False)


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def main() -> None:
    with running(data=[SAMPLES]) as base:
        night(base, FIRST)
        before = versions(base)
        say("\nwritten: " + ", ".join(f"{sum(k.startswith(kind + '/') for k in before)} {kind}" for kind in WRITTEN))
        for subject in ours(base, "ResearchSubject"):
            say(f"  {subject['individual']['reference']}: {subject['status']}")
        night(base, SECOND)
        changed = {name for name, version in versions(base).items() if before.get(name) != version}
        say(f"\nthe second night made {len(changed)} new versions" + "".join(f"\n  {name}" for name in sorted(changed)))


if __name__ == "__main__":
    main()
