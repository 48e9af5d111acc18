"""The dashboard, by the types that Grafana publishes."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.docs.markdown import ROOT

DASHBOARD: Final = ROOT / "deploy" / "grafana" / "dashboard.json"
TYPES: Final = Path(__file__).with_name("dashboard.ts")
PACKAGES: Final = ("@grafana/schema@13.2.3", "typescript@5.9.3")
INSTALL: Final = ("npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts")
OPTIONS: Final = ("--noEmit", "--strict", "--skipLibCheck", "--module", "esnext")
HEAD: Final = """\
import type { OurDashboard } from "./dashboard";
export const dashboard: OurDashboard = """

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("npm"), reason="npm is not installed: apt-get install nodejs npm"
    ),
]


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with TypeScript and the types of Grafana."""
    folder = tmp_path_factory.mktemp("grafana")
    shutil.copy(TYPES, folder)
    command = [*INSTALL, *PACKAGES]
    if subprocess.run(command, cwd=folder, check=False, timeout=600).returncode:
        pytest.skip("npm cannot install the types of Grafana: is its registry within reach?")
    return folder


def complaints(compiler: Path, dashboard: str) -> str:
    """Return what TypeScript says about the JSON of a dashboard."""
    (compiler / "check.ts").write_text(HEAD + dashboard, "utf-8")
    tsc = [compiler / "node_modules" / ".bin" / "tsc", *OPTIONS, "--moduleResolution", "bundler"]
    ended = subprocess.run(
        [*tsc, "check.ts"], cwd=compiler, check=False, capture_output=True, text=True, timeout=600
    )
    assert bool(ended.returncode) == bool(ended.stdout), ended
    return ended.stdout


def test_the_dashboard_has_the_types_of_grafana(compiler: Path):
    """TypeScript accepts the dashboard, and none with an unknown value or name."""
    text = DASHBOARD.read_text("utf-8")
    wrong = {'"mode": "multi"': '"mode": "many"', '"reduceOptions"': '"reducedOptions"'}

    assert complaints(compiler, text) == ""
    for right, mistake in wrong.items():
        assert "check.ts" in complaints(compiler, text.replace(right, mistake))
