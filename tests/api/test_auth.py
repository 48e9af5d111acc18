"""Who may ask what: by address and by name, with a token and without."""

from itertools import product
from pathlib import Path

import pytest

from poller.core.errors import StoreUnavailable
from poller.store.admin import StoreAdmin
from poller.sutro.simulator.script import JobScript
from tests.support.api_server import House, a_house
from tests.support.secret_canaries import TOKEN

pytestmark = pytest.mark.anyio

OPEN = ("/livez", "/readyz", "/healthz", "/metrics", "/version")
CLOSED = ("/v1/status", "/v1/jobs", "/v1/nothing", "/nothing", "/openapi.json")
BEARER = {"Authorization": f"Bearer {TOKEN}"}
RUNS = JobScript(job_id="job-1", run_seconds=1e5)


STRANGERS = (
    {},
    {"Host": "evil.example"},
    {"Origin": "http://evil.example"},
    {"Authorization": "Bearer wrong"},
)


async def test_probes_are_for_all(house: House):
    """Probes, metrics and the version are answered whoever asks, and by whatever name."""
    for headers, path in product(STRANGERS, OPEN):
        answer = await house.get(path, headers=headers)

        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Server"].startswith("sutro-poller/")


FOREIGN = (
    ({"Host": "evil.example"}, "unknown-host"),
    ({"Host": "localhost.evil.example:80"}, "unknown-host"),
    ({"Host": ""}, "unknown-host"),
    ({"Host": "localhost@evil.example"}, "unknown-host"),
    ({"Host": "["}, "unknown-host"),
    ({"Host": "127.0.0.1#@evil.example"}, "unknown-host"),
    ({"Host": "evil.example\\@127.0.0.1"}, "unknown-host"),
    ({"Origin": "http://evil.example"}, "cross-origin"),
    ({"Origin": "http://["}, "cross-origin"),
    ({"Origin": "null"}, "cross-origin"),
    ({"Origin": "http://127.0.0.1:1"}, "cross-origin"),
    ({"Host": "evil.example", "Origin": "http://evil.example"}, "unknown-host"),
)


async def test_auth_rejects_foreign_hosts_and_origins(house: House):
    """Neither a page of another site nor a name that was made to point here gets any answer."""
    for (headers, problem), path in product(FOREIGN, CLOSED):
        answer = await house.get(path, headers=headers)

        assert answer.problem == problem


OURS = ("localhost", "LOCALHOST:8377", "127.0.0.1", "10.1.2.3:80", "[::1]:8377", "Box.local")


async def test_our_names(tmp_path: Path):
    """Addresses, localhost and the names of POLLER_ALLOWED_HOSTS are ours, pages from there too.

    A proxy may have brought them by TLS.
    """
    async with a_house(tmp_path, RUNS, POLLER_ALLOWED_HOSTS="box.local,other") as house:
        for host, scheme in product(OURS, ("http", "https")):
            headers = {"Host": host, "Origin": f"{scheme}://{host}"}
            answer = await house.get("/v1/status", headers=headers)

            assert answer.status == 200


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", ""])
async def test_only_json_changes_something(house: House, kind: str):
    """A body that is not called JSON is not read: a form of another site could send it."""
    answer = await house.ask(
        "POST", "/v1/jobs", data=b'{"job_ids": ["job-9"]}', headers={"Content-Type": kind}
    )

    assert answer.problem == "unsupported-media-type"


async def test_with_a_token_it_is_asked_for_everywhere(tmp_path: Path):
    """With a token only who has it gets more than probes, on loopback too."""
    async with a_house(tmp_path, RUNS, POLLER_LISTEN_TOKEN=TOKEN) as house:
        given = [
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": "Bearer "},
            {"Authorization": "Bearer ü"},
        ]
        refused = [await house.get("/v1/status", headers=it) for it in given]
        taken = await house.get("/v1/status", headers=BEARER)
        open_to_all = [(await house.get(path)).status for path in OPEN]

    assert {it.problem for it in refused} == {"unauthorized"}
    assert {it.headers["WWW-Authenticate"] for it in refused} == {'Bearer realm="sutro-poller"'}
    assert taken.status == 200
    assert open_to_all == [200] * len(OPEN)


async def test_on_other_addresses_without_a_token(tmp_path: Path):
    """Where others can reach it, a daemon without a token serves nothing but the open paths."""
    async with a_house(tmp_path, RUNS, POLLER_LISTEN="0.0.0.0:0") as house:
        closed = [(await house.get(path)).problem for path in CLOSED]
        open_to_all = [(await house.get(path)).status for path in OPEN]
        told = [it["advice"] for it in house.log if it["event"] == "api.unauthenticated"]

    assert closed == ["forbidden"] * len(CLOSED)
    assert open_to_all == [200] * len(OPEN)
    assert told == ["set POLLER_LISTEN_TOKEN to serve more than probes, metrics and the version"]


async def test_on_other_addresses_with_a_token(tmp_path: Path):
    """With a token all is served on any address."""
    given = {"POLLER_LISTEN": "0.0.0.0:0", "POLLER_LISTEN_TOKEN": TOKEN}
    async with a_house(tmp_path, RUNS, **given) as house:
        answer = await house.get("/v1/status", headers=BEARER)

    assert answer.status == 200


async def test_a_new_token_counts_after_a_reload(tmp_path: Path):
    """The token is read from its file again like every other secret."""
    file = tmp_path / "token"
    file.write_text("an-older-token-than-that")
    async with a_house(tmp_path, RUNS, POLLER_LISTEN_TOKEN_FILE=str(file)) as house:
        before = await house.get("/v1/status", headers=BEARER)
        file.write_text(TOKEN)
        house.app.reload()
        after = await house.get("/v1/status", headers=BEARER)

    assert (before.problem, after.status) == ("unauthorized", 200)


@pytest.mark.parametrize(
    ("method", "path", "status", "problem"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/v1", 404, "not-found"),
        ("POST", "/livez", 405, "method-not-allowed"),
        ("PUT", "/v1/jobs", 405, "method-not-allowed"),
        ("OPTIONS", "/v1/jobs", 405, "method-not-allowed"),
    ],
)
async def test_what_is_not_served(house: House, method, path, status, problem):
    """Unknown paths and methods are told as problems, with the methods that there are."""
    answer = await house.ask(method, path)

    assert (answer.status, answer.problem) == (status, problem)
    assert ("Allow" in answer.headers) == (status == 405)


async def test_a_store_that_fails(house: House, monkeypatch: pytest.MonkeyPatch):
    """A database that is busy or fails is told as such, and when to come again."""

    def busy(_desk: StoreAdmin) -> None:
        raise StoreUnavailable("another process writes to it; try again")

    monkeypatch.setattr(StoreAdmin, "sinks", busy)
    answer = await house.get("/v1/sinks")

    assert (answer.status, answer.problem) == (503, "store-unavailable")
    assert answer.headers["Retry-After"] == "5"


async def test_a_bug_in_the_door(house: House, monkeypatch: pytest.MonkeyPatch):
    """A bug behind a request is one line of the log with its traceback, and ends nothing."""
    monkeypatch.setattr(StoreAdmin, "sinks", None)
    answer = await house.get("/v1/sinks")
    well = await house.get("/readyz")

    assert (answer.status, answer.problem, well.status) == (500, "internal-error", 200)
    (told,) = [it for it in house.log if it["event"] == "api.request_failed"]
    assert (told["route"], told["exc_info"]) == ("/v1/sinks", True)
    assert answer.body["detail"].endswith(f"request_id {told['request_id']}")
