"""The files that are generated from the code."""

from pathlib import Path

import pytest

from poller.config import load
from poller.core.errors import ConfigError
from tests.fault_injection import report
from tests.generate import EXAMPLE, PART, ROOT, generated
from tests.support.config_builders import WEBHOOK

FILES = generated()
KEY = {"SUTRO_API_KEY": "sk_ours"}
FILLED = KEY | {"POLLER_JOB_IDS": "job-1"} | WEBHOOK
SURROUNDINGS = {"HOME": "/home/us", "POLLER_LISTEN": "unix:/run/sutro-poller/api.sock"}
"""Variables that a service manager sets."""


@pytest.mark.parametrize("path", FILES)
def test_generated_file_is_current(path):
    """A generated file is up to date; `make generate` writes it."""
    assert (ROOT / path).read_text(encoding="utf-8") == FILES[path]


def test_the_documentation_has_all_generated_parts():
    """Each of the parts that the code makes has its place in one page."""
    parts = [part[2] for text in FILES.values() for part in PART.finditer(text)]

    assert sorted(parts) == ["commands", "issues", "metrics", "problems", "settings"]


def test_the_results_of_fault_injection_are_current():
    """The table of the documentation has the results of the last run, which are kept as data."""
    assert report.PAGE.read_text("utf-8") == report.page()


@pytest.mark.parametrize("name", ["minimal", "sidecar"])
def test_example_environment_loads(name):
    """With its empty lines filled in, each example is a configuration of a log and a webhook."""
    config = load(SURROUNDINGS | FILLED, ROOT / "config" / f"{name}.env")

    assert [sink.name for sink in config.sinks] == ["log", "webhook"]
    assert config.sources.file.warnings == ()


@pytest.mark.parametrize("name", ["minimal", "sidecar"])
def test_example_environment_that_is_not_edited_is_rejected(name):
    """With a key from elsewhere, as systemd provides it, an example still does not start."""
    with pytest.raises(ConfigError, match=r"^POLLER_WEBHOOK_URL: is required$"):
        load(SURROUNDINGS | KEY, ROOT / "config" / f"{name}.env")


@pytest.mark.parametrize("path", ["minimal.env", "sidecar.env", "poller.env"])
def test_example_environment_has_the_url_of_the_api(path):
    """The API's URL, which users with a deployment of their own must set, is in each example."""
    assert "\n#SUTRO_API_URL=https://api.sutro.sh\n" in FILES[f"config/{path}"]


def test_template_contains_the_defaults(tmp_path: Path):
    """With all its lines uncommented, the template changes nothing."""
    text = FILES["config/poller.env"].replace("\n#POLLER", "\nPOLLER").replace("\n#SU", "\nSU")
    uncommented = tmp_path / "all.env"
    uncommented.write_text(text, encoding="utf-8")

    config = load(EXAMPLE, uncommented)

    assert config.settings == load(EXAMPLE).settings
    assert config.sinks == load(EXAMPLE).sinks
