"""A Docker engine for these tests alone, its containers, and what it leaves behind: nothing."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests.deploy.programs import Ended, end_of, eventually, remove_groups
from tests.deploy.supplies import fetch, make_base, served
from tests.support.installed_wheel import PROJECT

DOCKER: Final = "/usr/bin/docker"
DOCKERFILE: Final = PROJECT / "deploy" / "container" / "Dockerfile"
BASE: Final = "base:made-here"
IMAGE: Final = "localhost/sutro-poller:tested"
USER: Final = 10001
ALONE: Final = ("--bridge=none", "--iptables=false", "--ip-forward=false")
"""The engine leaves the network of this machine as it is."""
APART: Final = """\
for it in /run /opt /etc/docker; do mkdir -p $it; mount -t tmpfs none $it; done
exec dockerd "$@"
"""
"""What it mounts, and writes beside its folders, goes with it."""
HARDENED: Final = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
GRACE: Final = 30.0


@dataclass(frozen=True)
class Engine:
    """A Docker engine, spoken to by Docker's own command line."""

    folder: Path

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"unix://{self.folder}/docker.sock"

    def end_of(self, *words: object, within: float = 60.0) -> Ended:
        """Run a command of Docker's to its end."""
        settings = {"DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": str(self.folder)}
        return end_of([DOCKER, "--host", self.address, *words], within=within, env=settings)

    def run(self, *words: object, within: float = 60.0) -> str:
        """Run a command of Docker's that has to succeed, and give what it prints."""
        ended = self.end_of(*words, within=within)
        assert ended.code == 0, (words, ended)
        return ended.out.strip()

    def inspect(self, name: str) -> dict[str, Any]:
        """Give all that is known of an image or a container."""
        (known,) = json.loads(self.run("inspect", name))
        return known


@dataclass(frozen=True)
class Container:
    """One container, running or ended."""

    engine: Engine
    name: str

    @property
    def state(self) -> dict[str, Any]:
        """How it is."""
        return self.engine.inspect(self.name)["State"]

    @property
    def is_healthy(self) -> bool:
        """Whether its own health check says so."""
        return self.state["Health"]["Status"] == "healthy"

    @property
    def process(self) -> Path:
        """What the kernel knows of its process 1."""
        return Path("/proc", str(self.state["Pid"]))

    @property
    def log(self) -> str:
        """What it has written."""
        ended = self.engine.end_of("logs", self.name)
        return ended.out + ended.err

    def said(self, event: str) -> list[dict[str, Any]]:
        """Give the log lines of one name."""
        lines = [json.loads(line) for line in self.log.splitlines()]
        return [line for line in lines if line["event"] == event]

    def stop(self, *, grace: int = 15) -> tuple[int, float]:
        """Ask it to stop, and give its exit code and the seconds that this took."""
        begin = time.monotonic()
        self.engine.run("stop", "--time", grace, self.name)
        return self.state["ExitCode"], time.monotonic() - begin


@contextmanager
def a_container(engine: Engine, *words: object) -> Iterator[Container]:
    """Start a container, which is removed afterwards."""
    container = Container(engine, engine.run("run", "--detach", *words))
    try:
        yield container
    except BaseException as error:
        error.add_note(container.log)
        raise
    finally:
        engine.run("rm", "--force", "--volumes", container.name)


@contextmanager
def an_engine() -> Iterator[Engine]:
    """Run a Docker engine; when this is left, its processes, mounts and files are gone."""
    with TemporaryDirectory(prefix="sutro-docker-") as name:
        folder = Path(name)
        engine = Engine(folder)
        places = [f"--{it}-root={folder / it}" for it in ("data", "exec")]
        places += [f"--host={engine.address}", f"--cgroup-parent=/{folder.name}", *ALONE]
        with (folder / "log").open("w") as log:
            command = ["unshare", "--mount", "sh", "-euc", APART, "dockerd", *places]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            eventually(lambda: engine.end_of("--version").code == 0, within=GRACE)
            yield engine
        finally:
            process.terminate()
            process.wait(GRACE)
            for group in (folder.name, "docker"):  # the other one is BuildKit's
                remove_groups(group)


def build(engine: Engine, folder: Path) -> str:
    """Build the image as people do, from a base and packages that are fetched here and now."""
    engine.run("import", make_base(folder), BASE)
    with served(fetch(folder)) as pip_conf:
        words = ["--network=host", f"--build-arg=BASE_IMAGE={BASE}"]
        words += [f"--secret=id=pip.conf,src={pip_conf}", f"--file={DOCKERFILE}", f"--tag={IMAGE}"]
        engine.run("build", *words, PROJECT, within=300.0)
    return IMAGE
