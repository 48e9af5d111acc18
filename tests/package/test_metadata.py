"""The metadata of the package: its rating, its dependencies and its versions of Python."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from typing import Final

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.installed_wheel import PROJECT

METADATA: Final = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
SECTIONS: Final = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_pyroma_rates_the_package_10():
    """Pyroma finds nothing that the metadata lacks."""
    command = [sys.executable, "-m", "pyroma", str(PROJECT)]
    rated = subprocess.run(command, capture_output=True, check=False, text=True, timeout=300)

    assert "Final rating: 10/10" in rated.stdout, rated


def test_imports_are_declared():
    """The package declares every distribution that its code imports, and no other."""
    extras = METADATA["optional-dependencies"].values()
    declared = [*METADATA["dependencies"], *(line for lines in extras for line in lines)]

    assert _imported() == {canonicalize_name(Requirement(line).name) for line in declared}


def test_classifiers_are_the_tested_versions():
    """The workflow tests the versions of Python that the classifiers name, from the oldest on."""
    workflow = yaml.safe_load((PROJECT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    classified = re.findall(r":: Python :: (3\.\d+)", "\n".join(METADATA["classifiers"]))

    assert classified == tested
    assert METADATA["requires-python"] == f">={classified[0]}"


def test_changelog_keeps_its_form():
    """The changelog has a section for the next version, and the headings of Keep a Changelog."""
    text = (PROJECT / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## (.*)$", text, re.MULTILINE)

    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\w*\] - \d{4}-\d\d-\d\d", it) for it in versions[1:])
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= SECTIONS


def _imported() -> set[str]:
    owners = packages_distributions()
    names = {name for path in PROJECT.glob("poller/**/*.py") for name in _imports(path.read_text())}
    others = names - {*sys.stdlib_module_names, "poller"}
    return {canonicalize_name(owner) for name in others for owner in owners[name]}


def _imports(code: str) -> set[str]:
    nodes = [*ast.walk(ast.parse(code))]
    names = [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names if name}
