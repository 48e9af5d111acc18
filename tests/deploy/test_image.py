"""The image, built and run by a real Docker engine."""

import tomllib
from pathlib import Path
from typing import Final

import pytest

from poller.sutro.simulator.script import JobScript
from tests.deploy.engine import (
    BASE,
    DOCKERFILE,
    HARDENED,
    IMAGE_WITH_EXTRAS,
    USER,
    Container,
    Engine,
    a_container,
    build_sqlite_stage,
)
from tests.deploy.programs import check, eventually
from tests.support.daemon_process import Place
from tests.support.installed_wheel import PROJECT
from tests.support.secret_canaries import found_in

pytestmark = pytest.mark.deploy

REPLACED: Final = dict.fromkeys(
    ("PATH", "HOME", "POLLER_STORE", "SUTRO_API_KEY", "POLLER_WEBHOOK_SECRET")
)
"""Variables that the image or files set."""

HEALTH_INTERVAL: Final = "--health-interval=1s"


def container_options(place: Place, secrets: Path, **changes: str | None) -> list[str]:
    """Return the options of `docker run` for the API, the receiver and the secrets."""
    given = place.environment({**REPLACED, "POLLER_LISTEN": "unix:/state/door", **changes})
    environment = [f"--env={name}={text}" for name, text in given.items()]
    return ["--network=host", f"--volume={secrets}:/run/secrets:ro", *environment]


def status_of(container: Container) -> dict[str, str]:
    """Return the status of process 1: its users and capabilities."""
    lines = (container.process / "status").read_text("utf-8").splitlines()
    return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}


def test_dockerfile_passes_hadolint():
    """Hadolint reports nothing for the Dockerfile."""
    assert check("hadolint", DOCKERFILE) == (0, "", "")


def test_image_configuration(engine: Engine, image: str):
    """The image has a user of its own, a volume, a health check, and starts without a shell."""
    config = engine.inspect(image)["Config"]

    assert config["User"] == f"{USER}:{USER}"
    assert config["Volumes"] == {"/state": {}}
    assert config["StopSignal"] == "SIGTERM"
    assert (config["Entrypoint"], config["Cmd"]) == (["sutro-poller"], ["run"])
    assert config["Healthcheck"]["Test"] == ["CMD", "sutro-poller", "health"]


def test_image_labels(engine: Engine, image: str):
    """The image says what it is, where it comes from and under which license."""
    labels = engine.inspect(image)["Config"]["Labels"]
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    urls = project["urls"]

    assert {name.rpartition(".")[2]: text for name, text in labels.items()} == {
        "title": project["name"],
        "description": project["description"],
        "url": urls["Homepage"],
        "source": urls["Source"],
        "documentation": urls["Documentation"],
        "licenses": project["license"],
    }


def test_image_is_small(engine: Engine, image: str):
    """The image adds at most 80 MB to its base, as its page says."""
    added = engine.inspect(image)["Size"] - engine.inspect(BASE)["Size"]

    assert 0 < added < 80e6, added


@pytest.mark.usefixtures("image")
def test_extras_are_in_an_image_that_is_built_with_them(engine: Engine):
    """The build argument EXTRAS adds the libraries of sinks, with all that they import."""
    python = ["run", "--rm", "--network=none", "--entrypoint=python3", IMAGE_WITH_EXTRAS]

    engine.run(*python, "-c", "import poller.sinks.smtp, apprise.plugins")


def test_image_has_nothing_of_the_build(engine: Engine, image: str):
    """Neither pip nor the build's tools are in the image, nor the origin of the packages."""
    listing = ["run", "--rm", "--network=none", "--entrypoint=find", image]
    installed = engine.run(*listing, "/opt/sutro-poller", "-maxdepth", 5).splitlines()
    names = {Path(path).name.partition("-")[0] for path in installed}
    others = {Path(path) for path in engine.run(*listing, "/", "/etc", "-maxdepth", 1).splitlines()}

    assert {"aiohttp", "poller", "sutro_poller"} <= names
    assert names.isdisjoint({"pip", "setuptools", "hatchling"})
    assert others.isdisjoint(map(Path, ("/tools", "/src", "/wheels", "/etc/pip.conf")))
    assert "127.0.0.1" not in engine.run("history", "--no-trunc", image)


def sqlite_version(engine: Engine, image: str) -> tuple[int, ...]:
    """Return the version of the SQLite that the Python of an image has."""
    query = "SELECT sqlite_version()"
    code = f"import sqlite3; print(*sqlite3.connect('').execute('{query}').fetchone())"
    words = ["run", "--rm", "--network=none", "--entrypoint=python3", image, "-c", code]
    return tuple(map(int, engine.run(*words).split(".")))


def test_image_has_a_sqlite_with_the_fix(engine: Engine, image: str, tmp_path: Path):
    """The SQLite of the base has the WAL-reset bug, that of the image has not, says `check` too."""
    settings = tmp_path / "poller.env"
    settings.write_text("SUTRO_API_KEY=sk_1\nPOLLER_JOB_IDS=job-1\n", "utf-8")
    words = ["--network=none", f"--env-file={settings}", *HARDENED]
    checked = engine.run_to_end("run", "--rm", *words, image, "check")

    assert sqlite_version(engine, BASE) < (3, 51, 3) <= sqlite_version(engine, image)
    assert checked.code == 0
    assert "SQLite" not in checked.out + checked.err


def test_image_upgrades_nothing_else(engine: Engine, image: str):
    """Only the library of SQLite has another version than in the base."""
    listing = ["run", "--rm", "--network=none", "--entrypoint=dpkg-query"]
    before, after = (
        set(engine.run(*listing, name, "--show").splitlines()) for name in (BASE, image)
    )

    assert {line.partition(":")[0] for line in before ^ after} == {"libsqlite3-0"}
    assert len(before) == len(after)


def test_dockerfile_takes_sqlite_only_where_it_can_and_must(
    engine: Engine, image: str, tmp_path: Path
):
    """Another release is needed for Debian 13 with the bug alone, and only if this is wanted."""
    other = "localhost/other:tested"
    rename = "RUN sed -i s/VERSION_CODENAME=trixie/VERSION_CODENAME=other/ /etc/os-release"
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\n{rename}\n", "utf-8")
    engine.run("build", "--network=none", f"--tag={other}", tmp_path)

    assert build_sqlite_stage(engine).code != 0  # it has no network
    assert build_sqlite_stage(engine, "--build-arg=SQLITE_RELEASE=").code == 0
    assert build_sqlite_stage(engine, base=image).code == 0
    assert build_sqlite_stage(engine, base=other).code == 0


def test_container_without_configuration_exits_78(engine: Engine, image: str):
    """Without a configuration the container prints what is required, and exits with 78."""
    ended = engine.run_to_end("run", "--rm", "--network=none", *HARDENED, image)

    assert (ended.code, ended.out) == (78, "")
    assert "SUTRO_API_KEY: is required" in ended.err


def test_container_runs_hardened(engine: Engine, image: str, place: Place, secrets: Path):
    """Read-only and unprivileged, the container gets healthy, reports an end, and stops in time."""
    jobs = place.jobs(JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=1.0))
    words = [HEALTH_INTERVAL, *HARDENED, *container_options(place, secrets, POLLER_JOB_IDS=jobs)]

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
        assert seconds < 60.0
        assert [event["job"]["job_id"] for event in container.said("job.succeeded")] == ["job-1"]
        assert not found_in(container.log.encode())


def test_container_runs_as_any_user_of_group_0(engine: Engine, image: str, place: Place):
    """A user that the image does not know, as OpenShift assigns, can write the state."""
    jobs = place.jobs(JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=0.0))
    changes = dict.fromkeys(("PATH", "HOME", "POLLER_STORE"))
    given = place.environment({**changes, "POLLER_LISTEN": "unix:/state/door"})
    environment = [f"--env={name}={text}" for name, text in given.items()]
    words = ["--network=host", "--user=1000690000:0", HEALTH_INTERVAL, *HARDENED, *environment]

    with a_container(engine, *words, f"--env=POLLER_JOB_IDS={jobs}", image) as container:
        eventually(lambda: container.is_healthy)
        eventually(lambda: place.receiver.ends == ["job-1"])
        code, _ = container.stop()

    assert code == 0


def test_container_state_survives(engine: Engine, image: str, place: Place, secrets: Path):
    """An end that one container has reported is not reported by the next with the same volume."""
    jobs = place.jobs(JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=0.0))
    words = [
        HEALTH_INTERVAL,
        *HARDENED,
        *container_options(place, secrets, POLLER_JOB_IDS=jobs),
        "--volume=kept:/state",
    ]

    with a_container(engine, *words, image) as first:
        eventually(lambda: place.receiver.acknowledged)
        assert first.stop()[0] == 0
    with a_container(engine, *words, image) as second:
        eventually(lambda: second.is_healthy)
        assert second.stop()[0] == 0

    assert place.receiver.ends == ["job-1"]
