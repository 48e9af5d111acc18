"""Third-party programs, each installed from the package index into a venv under build/."""

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HOME: Final = Path(__file__).parents[2] / "build" / "bench"
SDK: Final = ("sutro==0.1.67",)
AIRFLOW: Final = ("apache-airflow==3.3.2", "apache-airflow-providers-openai==2.2.0")


def python_with(packages: Sequence[str]) -> str:
    """Return an interpreter that has these packages; the first time takes a minute."""
    folder = HOME / packages[0].replace("==", "-")
    if not (folder / "complete").exists():
        venv.create(folder, symlinks=True, clear=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(folder)]
        # Nothing is built: wheels alone, so that the installation runs no code.
        arguments = ["install", "--quiet", "--only-binary=:all:", *packages]
        subprocess.run([*pip, *arguments], check=True, timeout=600)
        (folder / "complete").touch()
    return str(folder / "bin" / "python")
