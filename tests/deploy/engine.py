"""A Docker engine for these tests alone, and its containers; nothing is left behind."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests.deploy.programs import Ended, eventually, remove_groups, run_to_end
from tests.deploy.supplies import fetch, make_base, package_index
from tests.support.installed_wheel import PROJECT

DOCKER: Final = "/usr/bin/docker"
DOCKERFILE: Final = PROJECT / "deploy" / "container" / "Dockerfile"
BASE: Final = "base:made-here"
IMAGE: Final = "localhost/sutro-poller:tested"
IMAGE_WITH_EXTRAS: Final = "localhost/sutro-poller:with-extras"
USER: Final = 10001
NETWORK_OPTIONS: Final = ("--bridge=none", "--iptables=false", "--ip-forward=false")
"""Options that leave the network of this machine as it is."""
START_SCRIPT: Final = """\
for it in /run /opt /etc/docker; do mkdir -p $it; mount -t tmpfs none $it; done
exec dockerd "$@"
"""
"""A script whose mounts end with the engine."""
HARDENED: Final = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
GRACE: Final = 120.0


@dataclass(frozen=True)
class Engine:
    """A Docker engine, used through Docker's own command line."""

    folder: Path

    @property
    def address(self) -> str:
        """The address where it listens."""
        return f"unix://{self.folder}/docker.sock"

    def run_to_end(self, *words: object, within: float = 300.0) -> Ended:
        """Run a command of Docker to its end."""
        settings = {"DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": str(self.folder)}
        return run_to_end([DOCKER, "--host", self.address, *words], within=within, env=settings)

    def run(self, *words: object, within: float = 300.0) -> str:
        """Run a command of Docker that must succeed, and return its output."""
        ended = self.run_to_end(*words, within=within)
        assert ended.code == 0, (words, ended)
        return ended.out.strip()

    def inspect(self, name: str) -> dict[str, Any]:
        """Return the description of an image or a container."""
        (known,) = json.loads(self.run("inspect", name))
        return known


@dataclass(frozen=True)
class Container:
    """One container, running or ended."""

    engine: Engine
    name: str

    @property
    def state(self) -> dict[str, Any]:
        """Its state."""
        return self.engine.inspect(self.name)["State"]

    @property
    def is_healthy(self) -> bool:
        """Return whether its own health check succeeds."""
        return self.state["Health"]["Status"] == "healthy"

    @property
    def process(self) -> Path:
        """Its process 1 below /proc."""
        return Path("/proc", str(self.state["Pid"]))

    @property
    def log(self) -> str:
        """Its output."""
        ended = self.engine.run_to_end("logs", self.name)
        return ended.out + ended.err

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of an event."""
        lines = [json.loads(line) for line in self.log.splitlines()]
        return [line for line in lines if line["event"] == event]

    def stop(self, *, grace: int = 60) -> tuple[int, float]:
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
        places = [f"--{name}-root={folder / name}" for name in ("data", "exec")]
        places += [f"--host={engine.address}", f"--cgroup-parent=/{folder.name}", *NETWORK_OPTIONS]
        with (folder / "log").open("w") as log:
            command = ["unshare", "--mount", "sh", "-euc", START_SCRIPT, "dockerd", *places]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            eventually(lambda: engine.run_to_end("--version").code == 0, within=GRACE)
            yield engine
        finally:
            process.terminate()
            process.wait(GRACE)
            for group in (folder.name, "docker"):  # the other one is BuildKit's
                remove_groups(group)


def build_sqlite_stage(engine: Engine, *words: object, base: str = BASE) -> Ended:
    """Build the stage that takes a SQLite from another release, without a network."""
    words = ("--network=none", f"--build-arg=BASE_IMAGE={base}", *words)
    stage = ("--target=sqlite", f"--file={DOCKERFILE}", "--tag=localhost/sqlite:tested")
    return engine.run_to_end("build", *words, *stage, PROJECT)


def build(engine: Engine, folder: Path) -> str:
    """Build the image as people do, from a base and packages that are fetched here and now.

    The image with the libraries of all sinks is built from the same ones.
    """
    engine.run("import", make_base(folder), BASE)
    with package_index(fetch(folder)) as pip_conf:
        words = ["--network=host", f"--build-arg=BASE_IMAGE={BASE}"]
        words += [f"--secret=id=pip.conf,src={pip_conf}", f"--file={DOCKERFILE}"]
        for image, extras in ((IMAGE, ""), (IMAGE_WITH_EXTRAS, "email apprise")):
            options = [f"--build-arg=EXTRAS={extras}", f"--tag={image}"]
            engine.run("build", *words, *options, PROJECT, within=1_200.0)
    return IMAGE
