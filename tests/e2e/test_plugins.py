"""Sinks of other packages: the example works, and a bad one harms no other and leaks nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from poller.sutro.simulator.script import JobScript
from tests.support.builders import check_event
from tests.support.daemon_process import NO_WEBHOOK, Place
from tests.support.plugin_packages import a_plugin
from tests.support.secret_canaries import PATH, leaks
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ENDED = JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=0.0)

ODD = """
from contextlib import asynccontextmanager

import anyio

from poller.sinks import DeliveryError, SinkKind
from poller.sinks.webhook import WebhookSettings


class Odd:
    def __init__(self, url):
        self.url = url

    async def send(self, delivery):
        BODY


@asynccontextmanager
async def open_sink(settings, outbound):
    yield Odd(settings.value.url.get_secret_value())


KIND = SinkKind(WebhookSettings, open_sink)
"""


def odd(folder: Path, source: str) -> dict[str, str | None]:
    """Install a sink `odd`, and return the settings that add it to the log sink."""
    a_plugin(folder, "odd", source)
    return NO_WEBHOOK | {
        "PYTHONPATH": str(folder),
        "POLLER_SINKS": "log,odd",
        "POLLER_ODD_URL": f"https://odd.example{PATH}",
    }


async def test_plugin_example_writes_events_to_its_folder(
    place: Place, command_with_example: Path, tmp_path: Path
):
    """An installed package adds a sink with settings of its own."""
    spool = tmp_path / "spool"
    spool.mkdir()
    settings = {"POLLER_SINKS": "log,spool", "POLLER_SPOOL_FOLDER": str(spool)} | NO_WEBHOOK
    place = replace(place, command=command_with_example)
    async with place.running("run", POLLER_JOB_IDS=place.jobs(ENDED), **settings) as daemon:
        await until(lambda: any(spool.glob("*.json")))
        code = await daemon.stop()

    (path,) = spool.iterdir()
    event = check_event(path.read_bytes())
    assert code == 0
    assert (event["type"], event["data"]["job"]["job_id"]) == ("job.succeeded", "job-1")


async def test_plugin_example_for_people_has_filters_and_digests(
    place: Place, command_with_example: Path, tmp_path: Path
):
    """An installed sink gets one message for several events of the jobs that its filter selects."""
    board = tmp_path / "board.txt"
    jobs = [replace(ENDED, job_id=f"job-{name}", name=f"nightly {name}") for name in ("a", "b")]
    other = replace(ENDED, job_id="job-c", name="test c")
    settings = NO_WEBHOOK | {
        "POLLER_SINKS": "log,board",
        "POLLER_BOARD_FILE": str(board),
        "POLLER_BOARD_JOB_NAME": "nightly *",
        "POLLER_BOARD_DIGEST": "1h",
        "POLLER_JOB_IDS": place.jobs(*jobs, other),
        "POLLER_EXIT_WHEN_DONE": "on",
    }
    place = replace(place, command=command_with_example)
    async with place.running("run", **settings) as daemon:
        code = await daemon.end()

    message = board.read_text("utf-8")
    assert code == 0
    assert message.startswith("✅ 2 events since ")
    assert "nightly a (job-a) succeeded" in message
    assert "nightly b (job-b) succeeded" in message
    assert "test c" not in message


async def test_plugin_settings_are_shown_by_check(place: Place, command_with_example: Path):
    """The variables of a package's sink are listed like all others, and so are missing ones."""
    place = replace(place, command=command_with_example)
    settings = {"POLLER_JOB_IDS": "job-1", "POLLER_SINKS": "spool"} | NO_WEBHOOK

    good, shown = await place.run("check", "-o", "json", POLLER_SPOOL_FOLDER="/events", **settings)
    bad, failed = await place.run("check", **settings)

    variables = {row["variable"]: row["value"] for row in json.loads(shown.out)["settings"]}
    assert (good, variables["POLLER_SPOOL_FOLDER"]) == (0, "/events")
    assert (bad, failed.err) == (78, "sutro-poller: POLLER_SPOOL_FOLDER: is required\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "logged"),
    [
        ("raise RuntimeError(self.url)", "sink.crashed"),
        ("raise DeliveryError(f'{self.url} rejected it')", "delivery.failed"),
        ("raise DeliveryError(f'{self.url} is gone', is_gone=True)", "poller.sink_disabled"),
        ("await anyio.sleep_forever()", "job.succeeded"),
    ],
    ids=["raises", "rejects", "is gone", "hangs"],
)
async def test_plugin_that_fails_harms_no_other_sink(
    place: Place, tmp_path: Path, body: str, logged: str
):
    """Whatever a sink does with an event, others get it, and its secret URL appears nowhere."""
    settings = odd(tmp_path / "packages", ODD.replace("BODY", body))
    async with place.running("run", POLLER_JOB_IDS=place.jobs(ENDED), **settings) as daemon:
        await daemon.saying("job.succeeded")
        await daemon.saying(logged)
        code = await daemon.stop()

    assert code == 0
    assert not leaks(place.folder)


@pytest.mark.parametrize("output", ["table", "json"])
async def test_sinks_test_redacts_the_reason_of_a_plugin(place: Place, tmp_path: Path, output: str):
    """The command reports the reason of a failed test without the secret URL in it."""
    source = ODD.replace("BODY", "raise DeliveryError(f'cannot reach {self.url}')")
    settings = odd(tmp_path / "packages", source)

    code, ended = await place.run("sinks", "test", "odd", "-o", output, **settings)

    assert code == 1
    assert "cannot reach ****" in ended.out
    assert PATH not in ended.out + ended.err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (f"raise RuntimeError('{PATH}')", "cannot be loaded from odd:KIND (RuntimeError)"),
        ("import no_such_module", "cannot be loaded from odd:KIND (ModuleNotFoundError)"),
        ("KIND = object()", "odd:KIND must be a poller.sinks.SinkKind"),
    ],
    ids=["raises", "lacks", "other"],
)
async def test_plugin_package_that_is_broken_is_one_line(
    place: Place, tmp_path: Path, source: str, message: str
):
    """A broken package ends the start with exit code 78 and one line that names it."""
    settings = odd(tmp_path / "packages", source)

    code, ended = await place.run("run", POLLER_JOB_IDS="job-1", **settings)

    assert (code, ended.out, ended.err.count("\n")) == (78, "", 1)
    assert ended.err.startswith("sutro-poller: POLLER_SINKS: sink 'odd' ")
    assert message in ended.err


FENCED = ODD.replace("BODY", "pass")
YIELD = "    yield Odd(settings.value.url.get_secret_value())"


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("raise RuntimeError(settings.value.url.get_secret_value())", "RuntimeError: ****"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise __import__('asyncio').CancelledError", "CancelledError"),
    ],
    ids=["raises", "exits", "is cancelled"],
)
async def test_plugin_that_cannot_be_opened_is_one_line(
    place: Place, tmp_path: Path, trouble: str, reason: str
):
    """A sink that cannot be opened ends the start with exit code 78 and one line, no secrets."""
    settings = odd(tmp_path / "packages", FENCED.replace(YIELD, f"    {trouble}\n{YIELD}"))

    code, ended = await place.run("run", POLLER_JOB_IDS="job-1", **settings)
    tested, test = await place.run("sinks", "test", "odd", **settings)

    line = f"sutro-poller: POLLER_SINKS: sink 'odd' cannot be opened: {reason}"
    assert (code, tested) == (78, 78)
    assert (ended.err.count("\n"), test.err.count("\n")) == (1, 1)
    assert ended.err.startswith(line)
    assert test.err.startswith(line)
    assert "poller.crashed" not in ended.out


@pytest.mark.parametrize(
    "trouble",
    ["raise RuntimeError('at the end')", "raise __import__('asyncio').CancelledError"],
    ids=["raises", "is cancelled"],
)
async def test_plugin_that_cannot_be_closed_changes_no_exit_code(
    place: Place, tmp_path: Path, trouble: str
):
    """What a sink raises when it is closed is logged; the daemon exits with 0."""
    source = FENCED.replace(YIELD, f"{YIELD}\n    {trouble}")
    settings = odd(tmp_path / "packages", source)
    async with place.running("run", POLLER_JOB_IDS=place.jobs(ENDED), **settings) as daemon:
        await daemon.saying("job.succeeded")
        code = await daemon.stop()

    assert code == 0
    assert [line["sink"] for line in daemon.said("sink.crashed")] == ["odd"]
