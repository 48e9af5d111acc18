"""The OpenAPI document: it ships, it is right, and the live daemon keeps to it."""

import os
import sys
from pathlib import Path

import anyio
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from poller.api.metrics import Metrics
from poller.api.problems import KINDS
from poller.api.routes import ROUTES
from poller.core.counters import Counts
from poller.core.events import EVENT_TYPES
from poller.runtime.clock import Clock
from poller.status import Vitals
from poller.sutro.rate_limit import Budget
from tests.api.conftest import ENDS, RUNS
from tests.support.api_server import House, a_house
from tests.support.secret_canaries import TOKEN

pytestmark = pytest.mark.anyio

STREAM = "/v1/events/stream"
"""It never ends, so no program that waits for whole answers can try it; it has tests of its own."""


async def test_it_is_a_valid_document(house: House):
    """What is served is OpenAPI 3.1, and names every route and no other."""
    document = (await house.get("/openapi.json")).body

    OpenAPIV31SpecValidator(document).validate()
    named = {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert named == {(it.method, it.path) for it in ROUTES}
    assert set(document["components"]["schemas"]["EventType"]["enum"]) == EVENT_TYPES


@pytest.mark.slow
@pytest.mark.parametrize(("token", "seed"), [(None, "1"), (TOKEN, "2")], ids=["open", "token"])
async def test_the_daemon_keeps_to_it(tmp_path: Path, token: str | None, seed: str):
    """Whatever a program that knows the document tries, the answers are as it says.

    With a token it also tries to go without one.
    """
    given = {"POLLER_LISTEN_TOKEN": token} if token else {}
    async with a_house(tmp_path, RUNS, ENDS, POLLER_JOB_IDS="job-1,job-2", **given) as house:
        done = await anyio.run_process(
            [
                *(str(Path(sys.executable).with_name("st")), "run", f"{house.url}/openapi.json"),
                *("--url", house.url, "--checks", "all", "--exclude-path", STREAM),
                *("--max-examples", "50", "--seed", seed, "--max-time", "12"),
                *("--request-timeout", "5", "--no-color"),
                *(("--header", f"Authorization: Bearer {token}") if token else ()),
            ],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            cwd=tmp_path,
            check=False,
        )

    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    assert not [it for it in house.log if it["event"] == "door.failed"]


README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def test_the_readme_tells_every_problem():
    """The type of a problem leads to a line of the README that says what it means."""
    for name, (status, _) in KINDS.items():
        assert f'| <a id="problem-{name}"></a>`{name}` | {status} |' in README


def test_the_readme_tells_every_metric():
    """Every metric has a line in the README, with its labels."""
    now = Clock().steady
    vitals = Vitals(Budget(per_minute=60.0, now=now, random=lambda: 0.5), now)
    vitals.budget.hearing.note(None)
    for metric in Metrics(Counts(), vitals, now)._all(()):
        suffix = {"counter": "_total", "info": "_info"}.get(metric.type, "")

        assert f"| `{metric.name.removeprefix('sutro_poller_')}{suffix}` |" in README


def test_the_readme_tells_every_path():
    """Every path that is served is in the README."""
    for route in ROUTES:
        path = route.path.replace("{job_id}", "{id}").replace("{event_id}", "{id}")

        assert path.partition("/{name}")[0] in README
