"""The image, built and run by a real Docker engine."""

from pathlib import Path
from typing import Final

import pytest

from poller.sutro.simulator.script import JobScript
from tests.deploy.engine import DOCKERFILE, HARDENED, USER, Container, Engine, a_container
from tests.deploy.programs import check, eventually
from tests.support.daemon_process import Place
from tests.support.secret_canaries import found_in

pytestmark = pytest.mark.deploy

ELSEWHERE: Final = dict.fromkeys(
    ("PATH", "HOME", "POLLER_STORE", "SUTRO_API_KEY", "POLLER_WEBHOOK_SECRET")
)
"""What the image says, or files do."""

SOON: Final = "--health-interval=1s"


def told(place: Place, secrets: Path, **changes: str | None) -> list[str]:
    """Tell `docker run` where a container finds the API, the receiver and its secrets."""
    given = place.environment({**ELSEWHERE, "POLLER_LISTEN": "unix:/state/door", **changes})
    environment = [f"--env={name}={text}" for name, text in given.items()]
    return ["--network=host", f"--volume={secrets}:/run/secrets:ro", *environment]


def status_of(container: Container) -> dict[str, str]:
    """Read what the kernel says of process 1: its users, its capabilities."""
    lines = (container.process / "status").read_text("utf-8").splitlines()
    return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}


def test_the_linter_has_nothing_to_say():
    """Hadolint finds the Dockerfile clean."""
    assert check("hadolint", DOCKERFILE) == (0, "", "")


def test_the_image_says_how_it_is_to_be_run(engine: Engine, image: str):
    """It has a user of its own, a volume, a health check, and starts without a shell."""
    config = engine.inspect(image)["Config"]

    assert config["User"] == f"{USER}:{USER}"
    assert config["Volumes"] == {"/state": {}}
    assert config["StopSignal"] == "SIGTERM"
    assert (config["Entrypoint"], config["Cmd"]) == (["sutro-poller"], ["run"])
    assert config["Healthcheck"]["Test"] == ["CMD", "sutro-poller", "health"]


def test_nothing_of_the_build_is_left(engine: Engine, image: str):
    """Neither pip nor the build's tools are there, nor where the packages came from."""
    listing = ["run", "--rm", "--network=none", "--entrypoint=find", image]
    installed = engine.run(*listing, "/opt/sutro-poller", "-maxdepth", 5).splitlines()
    names = {Path(it).name.partition("-")[0] for it in installed}
    others = {Path(it) for it in engine.run(*listing, "/", "/etc", "-maxdepth", 1).splitlines()}

    assert {"aiohttp", "poller", "sutro_poller"} <= names
    assert names.isdisjoint({"pip", "setuptools", "hatchling"})
    assert others.isdisjoint(map(Path, ("/tools", "/src", "/wheels", "/etc/pip.conf")))
    assert "127.0.0.1" not in engine.run("history", "--no-trunc", image)


def test_a_wrong_configuration_ends_it(engine: Engine, image: str):
    """With nothing configured it says what is needed, and exits with 78."""
    ended = engine.end_of("run", "--rm", "--network=none", *HARDENED, image)

    assert (ended.code, ended.out) == (78, "")
    assert "SUTRO_API_KEY: is required" in ended.err


def test_it_lives_in_a_hardened_container(engine: Engine, image: str, place: Place, secrets: Path):
    """Read-only, as its own user, it gets healthy, tells of an end, and stops with 0 in time."""
    jobs = place.jobs(JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=1.0))
    words = [SOON, *HARDENED, *told(place, secrets, POLLER_JOB_IDS=jobs)]

    with a_container(engine, *words, image) as container:
        eventually(lambda: container.is_healthy)
        eventually(lambda: place.receiver.ends == ["job-1"])
        status = status_of(container)
        children = (container.process / "task" / container.process.name / "children").read_text()
        code, seconds = container.stop()

        assert status["Uid"].split() == [str(USER)] * 4
        assert status["Gid"].split() == [str(USER)] * 4
        assert (int(status["CapEff"], 16), status["NoNewPrivs"]) == (0, "1")
        assert children == ""
        assert code == 0
        assert seconds < 8.0
        assert [it["job"]["job_id"] for it in container.said("job.succeeded")] == ["job-1"]
        assert not found_in(container.log.encode())


def test_its_state_outlives_it(engine: Engine, image: str, place: Place, secrets: Path):
    """What was told from one container is not told again from the next with the same volume."""
    jobs = place.jobs(JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=0.0))
    words = [SOON, *HARDENED, *told(place, secrets, POLLER_JOB_IDS=jobs), "--volume=kept:/state"]

    with a_container(engine, *words, image) as first:
        eventually(lambda: place.receiver.answered)
        assert first.stop()[0] == 0
    with a_container(engine, *words, image) as second:
        eventually(lambda: second.is_healthy)
        assert second.stop()[0] == 0

    assert place.receiver.ends == ["job-1"]
