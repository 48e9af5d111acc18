"""The compose file: an app and the poller in its network."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.engine import USER, Container, Engine
from tests.deploy.programs import check, eventually, need, output
from tests.support.installed_wheel import PROJECT
from tests.support.secret_canaries import KEY

pytestmark = pytest.mark.deploy

FILE: Final = PROJECT / "deploy" / "compose" / "compose.yaml"

SIMULATE: Final = ["simulate", "--jobs", "1", "--speed", "20", "--key", KEY]
CHANGES: Final = {
    "services": {
        "app": {"network_mode": "none", "command": SIMULATE},
        "poller": {
            "environment": {"SUTRO_API_URL": "http://127.0.0.1:8378"},
            "healthcheck": {"interval": "1s"},
        },
    }
}
"""The app is a simulated API, in a network with the poller alone."""

ADD_JOBS: Final = """\
import json, sys, urllib.request
request = urllib.request.Request("http://127.0.0.1:8377/v1/jobs", method="POST")
request.add_header("Content-Type", "application/json")
with urllib.request.urlopen(request, json.dumps({"job_ids": sys.argv[1:]}).encode()) as answer:
    print(answer.status)
"""
"""The request of an app that adds its jobs."""


@dataclass(frozen=True)
class Project:
    """The running services of the compose file."""

    engine: Engine
    command: tuple[object, ...]

    def run(self, *words: str) -> str:
        """Run a command of docker-compose."""
        return output([*self.command, *words], env={"DOCKER_HOST": self.engine.address})

    def __getitem__(self, service: str) -> Container:
        """Return the container of a service."""
        return Container(self.engine, self.run("ps", "--quiet", service).strip())


@contextmanager
def a_project(engine: Engine, image: str, folder: Path) -> Iterator[Project]:
    """Start the services in a folder; remove them and their volumes afterwards."""
    changes = folder / "changes.json"
    changes.write_text(json.dumps(CHANGES), "utf-8")
    (folder / ".env").write_text(f"APP_IMAGE={image}\nPOLLER_IMAGE={image}\n", "utf-8")
    files = ("--project-directory", folder, "--file", FILE, "--file", changes)
    project = Project(engine, ("docker-compose", *files))
    try:
        project.run("up", "--no-build", "--detach")
        yield project
    except BaseException as error:
        error.add_note(project.run("logs", "--no-color"))
        raise
    finally:
        project.run("down", "--volumes")


def test_compose_file_is_valid():
    """The file is valid by the schema of the compose specification."""
    ended = check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE)

    assert ended.code == 0, ended


def test_compose_services_report_a_job(engine: Engine, image: str, secrets: Path):
    """In the app's network the poller adds the app's job, reports its end, and stops with 0."""
    need("docker-compose")
    url = secrets / "POLLER_WEBHOOK_URL"
    url.write_text("http://127.0.0.1:9/hooks", "utf-8")
    os.chown(url, USER, USER)
    with a_project(engine, image, secrets.parent) as project:
        app, poller = project["app"], project["poller"]
        eventually(lambda: poller.is_healthy)
        job_id = app.log.partition("POLLER_JOB_IDS=")[2].split()[0]
        added = project.run("exec", "-T", "app", "python3", "-c", ADD_JOBS, job_id)
        ended = eventually(lambda: poller.said("job.succeeded"))
        code, seconds = poller.stop()

        assert (app.state["Running"], poller.process.name) == (True, "0")
        assert added == "200\n"
        assert [event["job"]["job_id"] for event in ended] == [job_id]
        assert code == 0
        assert seconds < 60.0
