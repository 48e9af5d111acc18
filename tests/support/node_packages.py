"""Packages for Node.js that tests install, and programs that use them."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

TYPESCRIPT: Final = "typescript@5"
STANDARD_WEBHOOKS: Final = "standardwebhooks@1"
ADAPTIVE_CARDS: Final = "adaptivecards@3"
"""Microsoft's own renderer of the cards that Teams shows."""
ROBOTO: Final = "@fontsource/roboto@5"

needs_npm = pytest.mark.skipif(
    not shutil.which("npm"), reason="npm is not installed: apt-get install nodejs npm"
)


def install_node_packages(folder: Path, *packages: str) -> Path:
    """Install packages into a folder and return it; skip the test where npm cannot."""
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", *packages]
    installed = subprocess.run(command, cwd=folder, check=False, capture_output=True, timeout=300)
    if installed.returncode:
        pytest.skip(f"npm cannot install {packages}: is its registry within reach?")
    return folder
