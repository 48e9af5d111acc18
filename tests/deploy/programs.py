"""External programs: which are installed, what they print, and waiting for their effects."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import pytest

from tests.support.installed_wheel import PROJECT

CHECKERS: Final = PROJECT / "build" / "deploy" / "bin"
"""The folder where `make test-deploy` installs the programs that check deploy/."""

GROUPS: Final = Path("/sys/fs/cgroup")

T = TypeVar("T")


class Ended(NamedTuple):
    """The exit code and the output of a program."""

    code: int
    out: str
    err: str


def need(*programs: str) -> None:
    """Skip the test where it is not run as root, or a program is not installed."""
    if os.geteuid():
        pytest.skip("must be root")
    if missing := [program for program in programs if not shutil.which(program)]:
        pytest.skip(f"not installed: {', '.join(missing)}")


def run_to_end(
    command: Sequence[object],
    *,
    within: float = 300.0,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
) -> Ended:
    """Run a program to its end."""
    ended = subprocess.run(
        [str(word) for word in command],
        input=stdin,
        env={**os.environ, **(env or {})},
        capture_output=True,
        check=False,
        text=True,
        timeout=within,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def output(command: Sequence[object], *, within: float = 300.0, **more: str) -> str:
    """Run a program that must succeed, and return its output."""
    ended = run_to_end(command, within=within, **more)
    assert ended.code == 0, (command, ended)
    return ended.out


def check(program: str, *arguments: object) -> Ended:
    """Run one of the programs that check deploy/."""
    return run_to_end([CHECKERS / program, *arguments])


def eventually(claim: Callable[[], T], *, within: float = 120.0) -> T:
    """Wait until a condition is true, and return its value."""
    deadline = time.monotonic() + within
    while not (found := claim()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)
    return found


def remove_groups(name: str) -> None:
    """Remove the empty control groups that an engine leaves; those that are in use stay."""
    for top in GROUPS.glob(f"**/{name}"):
        for group in sorted(top.glob("**/"), reverse=True):
            with suppress(OSError):
                group.rmdir()
