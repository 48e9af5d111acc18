"""What other programs import: public names, and how little comes with them."""

import sys
from pathlib import Path
from subprocess import run

import pytest

import poller

ROOT = Path(__file__).parents[2]
DAEMON = ("poller.cli", "poller.api", "poller.delivery", "poller.app", "poller.sinks.webhook")


@pytest.mark.parametrize(
    ("statement", "unused"),
    [
        ("import poller", ("anyio", "aiohttp", "pydantic", "structlog", "poller.library")),
        ("from poller import wait", DAEMON),
        ("from poller import watch", DAEMON),
        (
            "import poller.sinks",
            (*DAEMON, "poller.sinks.log", "poller.sinks.testing", "poller.config"),
        ),
    ],
)
def test_import_is_light(statement: str, unused: tuple[str, ...]):
    """An import loads nothing that the importing program does not use."""
    code = f"{statement}\nimport sys\nprint([name for name in {unused} if name in sys.modules])"

    assert run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"


def test_import_needs_no_installed_package():
    """A copy of the source without installed metadata can be imported."""
    code = "import poller; print(poller.__version__)"  # -S: without site-packages
    command = [sys.executable, "-S", "-c", code]

    assert run(command, cwd=ROOT, capture_output=True, check=True).stdout == b"0+unknown\n"


def test_public_names_exist():
    """Every public name can be imported, and no other."""
    assert all(getattr(poller, name) for name in poller.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        poller.nothing  # noqa: B018
