"""`sutro-poller files` of an installed wheel, its man page and its shell completions."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from poller.cli import VERBS
from poller.cli.files import PATHS
from tests.support.installed_wheel import PROJECT

COMPLETE: Final = """\
source "$1"
COMP_WORDS=(sutro-poller files "")
COMP_CWORD=2
COMP_TYPE=63
_shtab_sutro_poller
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""What bash does when Tab is pressed after `sutro-poller files `."""


def output(*words: object) -> str:
    """Return what a program prints."""
    command = [str(word) for word in words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.parametrize("name", PATHS)
def test_files_prints_a_file(command: Path, name: str):
    """A file of the repository is printed unchanged; those made for the wheel are not empty."""
    printed = output(command, "files", name)
    source = PROJECT / PATHS[name]

    assert len(printed) > 100
    assert not source.exists() or printed == source.read_text("utf-8")


def test_files_lists_the_names(command: Path):
    """Without a name, the names of all files are printed."""
    assert output(command, "files").split() == [*PATHS]


def test_man_page_is_where_man_looks(command: Path):
    """`man` finds the page in an installation; it describes every command and has no error."""
    page = command.parents[1] / "share" / "man" / "man1" / "sutro-poller.1"
    text = page.read_text("utf-8").replace("\\", "")

    assert page.read_text("utf-8") == output(command, "files", "sutro-poller.1")
    assert not [verb for verb in VERBS if f".SH SUTRO-POLLER {verb.upper()}\n" not in text]


def test_bash_completes(command: Path):
    """The completion for bash is where bash looks for it, and completes names and commands."""
    completion = command.parents[1] / "share/bash-completion/completions/sutro-poller"
    completed = output("bash", "-c", COMPLETE, "bash", completion).split()

    assert set(PATHS) <= set(completed)


@pytest.mark.skipif(not shutil.which("groff"), reason="groff formats man pages")
def test_man_page_is_well_formed(command: Path):
    """Groff formats the page without a warning."""
    page = command.parents[1] / "share" / "man" / "man1" / "sutro-poller.1"
    words = ["groff", "-man", "-ww", "-Tutf8", "-z", str(page)]
    formatted = subprocess.run(words, check=True, capture_output=True, text=True, timeout=120)

    assert formatted.stderr == ""
