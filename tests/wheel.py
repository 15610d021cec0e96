"""Builds the wheel and tests it from outside the source tree: what a hospital installs is what was tested."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTED = ("test_samples.py", "test_cases.py")


def run(*command: str | Path, cwd: Path) -> None:
    subprocess.run([str(part) for part in command], cwd=cwd, check=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        outside = Path(name)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", outside, ROOT, cwd=outside)
        (wheel,) = outside.glob("*.whl")
        venv.create(outside / "venv", with_pip=True)
        python = outside / "venv" / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", wheel, "pytest", "pytest-httpserver", "hypothesis", "trustme", cwd=outside)
        shutil.copytree(ROOT / "tests", outside / "tests", ignore=shutil.ignore_patterns("target", "__pycache__"))
        for folder in ("sample_bundles", "mappings", "docs"):  # the stories hold their flags against docs/clinical.md
            shutil.copytree(ROOT / folder, outside / folder)
        shutil.copy(ROOT / "pyproject.toml", outside)
        run(python.parent / "fhir-screen", "check", cwd=outside)
        run(python.parent / "fhir-screen", "demo", cwd=outside)
        run(python, "-m", "pytest", *(outside / "tests" / test for test in TESTED), cwd=outside)
    sys.stdout.write("the wheel was tested from outside the source tree\n")


if __name__ == "__main__":
    main()
