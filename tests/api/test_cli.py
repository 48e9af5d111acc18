"""The verbs that speak to a running daemon."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from tests.api.conftest import ENDS, RUNS
from tests.support.api_server import House, a_house, settings
from tests.support.secret_canaries import TOKEN, found_in
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Told:
    """What a verb printed, and its exit code."""

    code: int
    out: str
    err: str


async def ask(listen: str, *argv: str, **changes: str) -> Told:
    """Run `sutro-poller` with the settings of a daemon at an address."""
    given = settings(Path("/nowhere"), "http://127.0.0.1:9", "http://127.0.0.1:9")
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    done = await anyio.run_process(
        [sys.executable, "-m", "poller", *argv],
        env=known | given | {"POLLER_LISTEN": listen} | changes,
        check=False,
    )
    assert not found_in(done.stdout + done.stderr)
    return Told(done.returncode, done.stdout.decode(), done.stderr.decode())


def port_of(house: House) -> str:
    """Give what POLLER_LISTEN would be set to for a house."""
    return house.url.removeprefix("http://")


async def test_jobs_come_and_go(house: House):
    """A job that is added is watched, one that is removed is not; the list shows who named it."""
    at = port_of(house)
    added = await ask(at, "jobs", "add", "job-1", "job-3")
    listed = await ask(at, "jobs", "ls", "--watched")
    removed = await ask(at, "jobs", "rm", "job-3")
    as_json = await ask(at, "jobs", "ls", "--watched", "-o", "json")

    assert (added.code, removed.code) == (0, 0)
    assert added.out.splitlines()[1:] == [
        "job-1   was watched already, and is kept as added",
        "job-3   is watched from now on",
    ]
    assert [line.split()[0] for line in listed.out.splitlines()[1:]][2:] == ["job-3"]
    assert listed.out.splitlines()[3].split()[1:] == ["UNKNOWN", "-", "api"]
    assert {it["job_id"] for it in json.loads(as_json.out)} == {"job-1", "job-2"}


async def test_more_than_one_page(house: House):
    """However many are added and watched, all go and come."""
    ids = [f"new-{n}" for n in range(1_050)]
    added = await ask(port_of(house), "jobs", "add", *ids, "-o", "json")
    listed = await ask(port_of(house), "jobs", "ls", "--watched", "-o", "json")

    assert len(json.loads(added.out)) == 1_050
    assert {it["job_id"] for it in json.loads(listed.out)} == {"job-1", "job-2", *ids}


async def test_what_cannot_be_removed(house: House):
    """What the settings name, and what is not watched, is told a line each, with exit code 1."""
    told = await ask(port_of(house), "jobs", "rm", "job-1", "job-9")

    assert told.code == 1
    assert told.out.splitlines()[1:] == [
        "job-1   watched because of POLLER_JOB_IDS",
        "job-9   no job with this id is watched",
    ]


async def test_through_a_socket_with_a_token(tmp_path: Path):
    """The verbs find the socket and the token where the daemon does."""
    at = f"unix:{tmp_path}/api.sock"
    async with a_house(tmp_path, RUNS, ENDS, POLLER_LISTEN=at, POLLER_LISTEN_TOKEN=TOKEN) as house:
        refused = await ask(at, "jobs", "add", "job-2")
        added = await ask(at, "jobs", "add", "job-2", POLLER_LISTEN_TOKEN=TOKEN)
        await until(lambda: house.receiver.ends)

    assert (refused.code, added.code) == (77, 0)
    assert "set POLLER_LISTEN_TOKEN as for it" in refused.err


@pytest.mark.parametrize(
    ("at", "code", "told"),
    [
        ("off", 78, "POLLER_LISTEN: is off"),
        ("127.0.0.1:9", 69, "no daemon answers at http://127.0.0.1:9 (Connection refused)"),
        ("unix:/nowhere.sock", 69, "no daemon answers at unix:/nowhere.sock (No such file"),
    ],
)
async def test_nobody_there(at: str, code: int, told: str):
    """Where no daemon answers that is said, and where it was looked for."""
    for argv in (("add", "job-1"), ("rm", "job-1"), ("ls", "--watched")):
        ended = await ask(at, "jobs", *argv)

        assert ended.code == code
        assert ended.err.startswith(f"sutro-poller: {told}")


async def test_somebody_else_there(house: House):
    """What answers and is no daemon of ours is told as such."""
    ended = await ask(f"127.0.0.1:{house.api_port}", "jobs", "ls", "--watched")

    assert (ended.code, "404" in ended.err or "no sutro-poller" in ended.err) == (1, True)


@pytest.mark.parametrize(
    "argv", [("add",), ("add", "a/b"), ("rm", ".."), ("ls", "--watched", "--job", "x")]
)
async def test_misuse(argv: tuple[str, ...]):
    """What cannot be meant is refused before anybody is asked."""
    ended = await ask("127.0.0.1:9", "jobs", *argv)

    assert ended.code in {2, 78}
