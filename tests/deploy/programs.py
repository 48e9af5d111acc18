"""Programs of others: which are there, what they print, how long one waits for what they do."""

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
"""Where `make test-deploy` installs what checks the files of deploy/."""

GROUPS: Final = Path("/sys/fs/cgroup")

T = TypeVar("T")


class Ended(NamedTuple):
    """How a program ended."""

    code: int
    out: str
    err: str


def need(*programs: str) -> None:
    """Skip the test where it is not run as root, or a program is not installed."""
    if os.geteuid():
        pytest.skip("must be root")
    if missing := [it for it in programs if not shutil.which(it)]:
        pytest.skip(f"not installed: {', '.join(missing)}")


def end_of(
    command: Sequence[object],
    *,
    within: float = 60.0,
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


def output(command: Sequence[object], *, within: float = 60.0, **more: str) -> str:
    """Run a program that has to succeed, and give what it prints."""
    ended = end_of(command, within=within, **more)
    assert ended.code == 0, (command, ended)
    return ended.out


def check(program: str, *arguments: object) -> Ended:
    """Run one of the checkers."""
    return end_of([CHECKERS / program, *arguments])


def eventually(claim: Callable[[], T], *, within: float = 20.0) -> T:
    """Wait until a claim is true, and give what it says."""
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
