"""Settings and data in README and the pages of docs/ are valid."""

import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from configparser import ConfigParser
from typing import Final

import pytest
import yaml

from tests.docs.markdown import PAGES, blocks, read
from tests.docs.session import RUN
from tests.docs.worlds import KEY, SECRET

SHOWN: Final = frozenset({"env", "go", "http", "text"})
PARSERS: Final[dict[str, Callable[[str], object]]] = {
    "json": json.loads,
    "yaml": yaml.safe_load,
    "toml": tomllib.loads,
    "ini": lambda text: ConfigParser(interpolation=None, strict=False).read_string(text),
}
BLOCKS: Final = [block for page in PAGES for block in blocks(page)]


def of(*languages: str) -> list[object]:
    """Return the blocks of some languages as parameters of a test."""
    return [pytest.param(it, id=it.place) for it in BLOCKS if it.language in languages]


@pytest.mark.parametrize("block", of("env"))
def test_variables_are_accepted(block, program, tmp_path):
    """`sutro-poller check` accepts each example of settings, with a key and something to watch."""
    environment = {"HOME": str(tmp_path), "SUTRO_API_KEY": KEY, "POLLER_JOB_IDS": "job-1"}
    text = block.text.replace("whsec_...", SECRET)
    given = set(re.findall(r"^(\w+?)(?:_FILE)?=", text, re.MULTILINE))
    if given & {"POLLER_DISCOVER", "POLLER_JOBS_FILE"}:
        del environment["POLLER_JOB_IDS"]
    path = tmp_path / "shown.env"
    path.write_text(text, "utf-8")
    checked = subprocess.run(
        [program(block.page), "check", "--env-file", path],
        env={name: it for name, it in environment.items() if name not in given},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("block", of(*PARSERS))
def test_data_can_be_read(block):
    """Each block of data can be read by a parser of its language."""
    PARSERS[block.language](block.text)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_or_read(page):
    """Each block has a language that these tests know; a file that a block makes is used."""
    for block in (it for it in BLOCKS if it.page == page):
        assert block.language in RUN | SHOWN | {*PARSERS}, block.place
        if block.title:
            rest = read(page).replace(f'title="{block.title}"', "")
            name = re.escape(block.title.removesuffix(".py"))  # some name the module
            assert re.search(rf"^\$ .*{name}", rest, re.MULTILINE), block.place


def test_the_readme_is_short():
    """The README is an introduction of at most 250 lines; the rest is in docs/."""
    assert len(read("README.md").splitlines()) <= 250


def test_alert_rules_use_metrics_that_exist():
    """Each metric in the alert rules is one that the daemon serves."""
    rules = read("deploy/prometheus/rules.yml")
    served = set(re.findall(r"\| `(sutro_poller_\w+)` \|", read("docs/metrics.md")))

    used = set(re.findall(r"\bsutro_poller_\w+", rules))

    assert len(used) >= 5
    assert {name.removesuffix("_bucket") for name in used} <= served
