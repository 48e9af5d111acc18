"""The files that are made from the code."""

from pathlib import Path

import pytest

from poller.config import load
from tests.fault_injection import report
from tests.generate import PART, ROOT, generated
from tests.support.config_builders import GOOD, WEBHOOK

FILES = generated()
KEY = {"SUTRO_API_KEY": "sk_ours"}


@pytest.mark.parametrize("path", FILES)
def test_a_generated_file_is_current(path):
    """A file in the tree is what the code makes of it; `make generate` writes it."""
    assert (ROOT / path).read_text(encoding="utf-8") == FILES[path]


def test_the_documentation_has_all_generated_parts():
    """Each of the parts that the code makes has its place in one page."""
    parts = [part[2] for text in FILES.values() for part in PART.finditer(text)]

    assert sorted(parts) == ["commands", "issues", "metrics", "problems", "settings"]


def test_the_results_of_fault_injection_are_current():
    """The table of the documentation has the results of the last run, which are kept as data."""
    assert report.PAGE.read_text("utf-8") == report.page()


@pytest.mark.parametrize("name", ["minimal", "sidecar"])
def test_an_example_loads(name):
    """An example lacks only the key to be a whole configuration of a log and a webhook."""
    config = load({"HOME": "/home/us"} | KEY, ROOT / "config" / f"{name}.env")

    assert [it.name for it in config.sinks] == ["log", "webhook"]


def test_the_template_states_the_defaults(tmp_path: Path):
    """With all its lines in force, the template changes nothing."""
    text = FILES["config/poller.env"].replace("\n#POLLER", "\nPOLLER").replace("\n#SU", "\nSU")
    in_force = tmp_path / "all.env"
    in_force.write_text(text, encoding="utf-8")

    environ = GOOD | WEBHOOK | {"POLLER_SINKS": "log,webhook"}

    config = load(environ, in_force)

    assert config.settings == load(environ).settings
    assert config.sinks == load(environ).sinks
