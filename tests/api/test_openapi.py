"""The OpenAPI document: it ships, it is right, and the live daemon keeps to it."""

import os
import sys
from pathlib import Path

import anyio
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from poller.api.problems import DOCS_URL, PROBLEM_TYPES
from poller.api.routes import ENDPOINTS
from poller.core.events import EVENT_TYPES
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
    assert named == {(it.method, it.path) for it in ENDPOINTS}
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
    assert not [it for it in house.log if it["event"] == "api.request_failed"]


PAGE = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text("utf-8")


def test_the_type_of_a_problem_leads_to_its_description():
    """The type of each problem is the address of a row of the documentation."""
    assert DOCS_URL.startswith(
        "https://github.com/sutro-poller/sutro-poller/blob/main/docs/http-api.md#"
    )
    for name in PROBLEM_TYPES:
        assert f'<a id="{DOCS_URL.partition("#")[2]}{name}"></a>' in PAGE


def test_every_path_is_documented():
    """Every path that is served is in the documentation."""
    for endpoint in ENDPOINTS:
        path = endpoint.path.replace("{job_id}", "{id}").replace("{event_id}", "{id}")

        assert path.partition("/{name}")[0] in PAGE
