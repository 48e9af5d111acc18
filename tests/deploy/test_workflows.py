"""The workflows for GitHub, which cannot run here, and the bill of materials that they publish."""

import json
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.programs import check
from tests.support.installed_wheel import PROJECT

pytestmark = pytest.mark.deploy

GITHUB: Final = PROJECT / ".github"
WORKFLOWS: Final = sorted(GITHUB.glob("workflows/*.yml"))
PINNED: Final = PROJECT / "deploy" / "requirements.txt"


def test_workflows_match_their_schemas():
    """GitHub's schemas allow the workflows and the settings of Dependabot."""
    workflows = check("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    updates = ["--builtin-schema", "vendor.dependabot", GITHUB / "dependabot.yml"]

    assert workflows.code == 0, workflows
    assert check("check-jsonschema", *updates).code == 0


def test_zizmor_finds_nothing():
    """Zizmor finds no action without a commit, no needless permission, and nothing else."""
    audited = check("zizmor", "--offline", "--persona=pedantic", "--min-severity=low", GITHUB)

    assert audited.code == 0, audited


def test_bill_of_materials_has_every_dependency(tmp_path: Path):
    """The bill of materials names each pinned package with its version."""
    words = ["requirements", PINNED, "--pyproject", PROJECT / "pyproject.toml"]
    written = check("cyclonedx-py", *words, "--output-file", tmp_path / "sbom.json")
    components = json.loads((tmp_path / "sbom.json").read_text("utf-8"))["components"]
    pins = [line.split(" ")[0] for line in PINNED.read_text("utf-8").splitlines() if "==" in line]

    assert written.code == 0, written
    assert sorted(f"{it['name']}=={it['version']}" for it in components) == sorted(pins)
