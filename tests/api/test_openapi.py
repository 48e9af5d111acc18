"""The OpenAPI document, and the daemon's conformance to it."""

import os
import sys
from pathlib import Path

import anyio
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from poller.api.problems import DOCS_URL, PROBLEM_TYPES
from poller.api.routes import ENDPOINTS
from poller.core.events import RECORDED_TYPES
from tests.api.conftest import ENDS, RUNS
from tests.support.api_server import LiveDaemon, live_daemon
from tests.support.secret_canaries import TOKEN

pytestmark = pytest.mark.anyio

STREAM = "/v1/events/stream"
"""The stream never ends, so schemathesis cannot test it; it has tests of its own."""


async def test_openapi_document_is_valid_and_complete(daemon: LiveDaemon):
    """The document is valid OpenAPI 3.1 and has every route and no other."""
    document = (await daemon.get("/openapi.json")).body

    OpenAPIV31SpecValidator(document).validate()
    documented = {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert documented == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
    assert set(document["components"]["schemas"]["EventType"]["enum"]) == RECORDED_TYPES


@pytest.mark.slow
@pytest.mark.parametrize(("token", "seed"), [(None, "1"), (TOKEN, "3")], ids=["open", "token"])
async def test_openapi_document_matches_the_daemon(tmp_path: Path, token: str | None, seed: str):
    """All responses to requests that schemathesis derives from the document match it.

    With a token it also tries requests without one.
    """
    changes = {"POLLER_LISTEN_TOKEN": token} if token else {}
    async with live_daemon(tmp_path, RUNS, ENDS, POLLER_JOB_IDS="job-1,job-2", **changes) as daemon:
        done = await anyio.run_process(
            [
                *(str(Path(sys.executable).with_name("st")), "run", f"{daemon.url}/openapi.json"),
                *("--url", daemon.url, "--checks", "all", "--exclude-path", STREAM),
                *("--max-examples", "50", "--seed", seed, "--max-time", "12"),
                *("--request-timeout", "60", "--suppress-health-check", "all", "--no-color"),
                *(("--header", f"Authorization: Bearer {token}") if token else ()),
            ],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            cwd=tmp_path,
            check=False,
        )

    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    assert not [entry for entry in daemon.log if entry["event"] == "api.request_failed"]


PAGE = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text("utf-8")


def test_problem_types_are_documented():
    """The type of each problem is the address of a row of the documentation."""
    assert DOCS_URL.startswith(
        "https://github.com/sutro-poller/sutro-poller/blob/main/docs/http-api.md#"
    )
    for name in PROBLEM_TYPES:
        assert f'<a id="{DOCS_URL.partition("#")[2]}{name}"></a>' in PAGE


def test_paths_are_documented():
    """Every path that is served is in the documentation."""
    for endpoint in ENDPOINTS:
        path = endpoint.path.replace("{job_id}", "{id}").replace("{event_id}", "{id}")

        assert path.partition("/{name}")[0] in PAGE
