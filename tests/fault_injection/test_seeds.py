"""The tests of the tests: bugs that are added to the code must be caught.

Each patch in `seeds/` breaks a promise. Its head names the promise and the tests that must fail.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import pytest

from tests.fault_injection.harness import SCALE, tally
from tests.support.installed_wheel import PROJECT

SEEDS: Final = sorted(Path(__file__).with_name("seeds").glob("*.patch"))
NOT_COPIED: Final = shutil.ignore_patterns(".*", "__pycache__", "build", "dist")
TEST_SECONDS: Final = 300.0
"""Seconds that the tests of one seed may take."""

TESTS_FAILED: Final = 1
"""The exit code of pytest when tests ran and some failed."""

seeds = pytest.mark.parametrize("seed", SEEDS, ids=lambda path: path.stem)


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a patch."""

    promise: str
    caught_by: tuple[str, ...]

    @classmethod
    def read(cls, patch: Path) -> Self:
        """Parse the lines before the first difference."""
        head = patch.read_text("utf-8").partition("diff --git")[0]
        lines = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
        return cls(lines["Promise"], tuple(lines["Caught by"].split()))


def patched_copy(patch: Path, folder: Path) -> Path:
    """Copy the project and apply a patch to the copy; a stale patch is an error."""
    copy = folder / "project"
    shutil.copytree(PROJECT, copy, ignore=NOT_COPIED)
    subprocess.run(["git", "apply", str(patch)], cwd=copy, check=True, timeout=120)
    return copy


def run_tests(copy: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run tests of a copy in their usual form, apart from this run."""
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("FAULTS", "PYTEST", "COV_"))
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        command,
        cwd=copy,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
        timeout=TEST_SECONDS,
    )


@seeds
def test_seed_applies(seed: Path, tmp_path: Path):
    """A patch that does not apply must be written anew."""
    copy = patched_copy(seed, tmp_path)

    assert Head.read(seed).caught_by
    assert (copy / "poller").is_dir()


def is_defined(test: str) -> bool:
    """Return whether the file of a test exists, and its function if one is named."""
    path, _, function = test.partition("::")
    if not (PROJECT / path).is_file():
        return False
    name = function.partition("[")[0]
    return not name or f"def {name}(" in (PROJECT / path).read_text("utf-8")


@seeds
def test_seed_names_tests_that_exist(seed: Path):
    """Every test after `Caught by:` exists."""
    assert [test for test in Head.read(seed).caught_by if not is_defined(test)] == []


def sample() -> list[Path]:
    """Return the seeds to run: a few in the usual form, all in the long one."""
    few = SCALE.cases(min(3, len(SEEDS)), len(SEEDS))
    return sorted(SCALE.random("seeds").sample(SEEDS, few))


@pytest.mark.parametrize("seed", sample(), ids=lambda path: path.stem)
def test_seeded_bug_is_caught(seed: Path, tmp_path: Path):
    """The tests that a patch names fail with it."""
    head = Head.read(seed)

    ended = run_tests(patched_copy(seed, tmp_path), head.caught_by)

    missed = [] if ended.returncode == TESTS_FAILED else [f"{seed.stem}: {ended.stdout[-2_000:]}"]
    tally("a bug that is added to the code is caught", cases=1, violations=missed)
