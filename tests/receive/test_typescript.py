"""The types for TypeScript in docs/events.d.ts, checked by its compiler."""

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from poller.core.events import RECORDED_TYPES, EventOrigin
from poller.sinks import samples
from tests.support.builders import check_event
from tests.support.node_packages import TYPESCRIPT, install_node_packages, needs_npm

pytestmark = needs_npm

ROOT: Final = Path(__file__).parents[2]
ORIGIN: Final = EventOrigin(deployment="api.sutro.sh")
MOMENT: Final = datetime(2026, 11, 28, 12, 58, 8, 556_000, UTC)
OPTIONS: Final = (
    *("--noEmit", "--strict"),
    *("--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the compiler, and copy the types beside it."""
    folder = install_node_packages(tmp_path_factory.mktemp("typescript"), TYPESCRIPT)
    shutil.copy(ROOT / "docs" / "events.d.ts", folder)
    return folder


def compiled(folder: Path, program: str) -> str:
    """Return the errors of the compiler for a program."""
    checked = subprocess.run(
        [str(folder / "node_modules" / ".bin" / "tsc"), *OPTIONS, program],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return checked.stdout + checked.stderr


def body(event_type: str) -> dict[str, Any]:
    """Return the body of a sample event, which is valid by the schema."""
    sample = samples.test_event(event_type, ORIGIN, MOMENT, sink="webhook", instance="1")
    return check_event(sample.body)


def test_types_can_be_used(folder: Path):
    """A program with the types compiles: `type` narrows `data`, and misuse is rejected."""
    shutil.copy(ROOT / "tests" / "receivers" / "receiver.ts", folder)

    assert compiled(folder, "receiver.ts") == ""


def test_bodies_have_these_types(folder: Path):
    """Real bodies of every type are values of `Event`; one without a field is not."""
    bodies = [body(event_type) for event_type in sorted(RECORDED_TYPES)]
    never_observed = body("job.missing")
    never_observed["data"]["job"] = {"job_id": "job-1"}
    incomplete = body("job.failed")
    del incomplete["data"]["sequence"]
    program = (
        'import type { Event } from "./events";\n'
        f"export const events: Event[] = {json.dumps([*bodies, never_observed])};\n"
        "// @ts-expect-error - a required field is missing\n"
        f"export const incomplete: Event = {json.dumps(incomplete)};\n"
    )
    (folder / "bodies.ts").write_text(program, "utf-8")

    assert compiled(folder, "bodies.ts") == ""
