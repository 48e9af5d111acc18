"""A cluster of one node: podman with a network, mounts and processes of its own.

All that it writes is in memory. It reads its stdin until that ends: however the tests end, the
kernel then ends all that runs there, and network and mounts go with it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.deploy.cluster import Manifest
from tests.deploy.engine import Engine
from tests.deploy.programs import Ended, remove_groups, run_to_end

HOLD_SCRIPT: Final = """\
for it in /run /dev/shm /var/lib /etc/cni; do mount -t tmpfs none $it; done
ip link set lo up
echo held
cat
"""
NAMESPACES: Final = ("--net", "--mount", "--pid")
ENDS_WITH_PARENT: Final = ("--fork", "--mount-proc", "--kill-child")

CONFIGURATION: Final = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
"""There is no systemd, and root's own limits may be lower than podman's defaults."""

LOGS: Final = "for it in $(podman ps --all --quiet); do podman logs $it 2>&1; done"

GET: Final = """\
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=5)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode())
"""


@dataclass(frozen=True)
class Node:
    """The node where Pods run. `process` is the one that holds it."""

    process: int
    folder: Path

    def run_to_end(self, *words: object, within: float = 300.0) -> Ended:
        """Run a command there to its end."""
        enter = ["nsenter", f"--target={self.process}", *NAMESPACES, "--"]
        settings = {"CONTAINERS_CONF": str(self.folder / "conf"), "DISABLE_HC_SYSTEMD": "true"}
        return run_to_end([*enter, *words], within=within, env=settings)

    def podman(self, *words: object, within: float = 300.0) -> str:
        """Run a command of podman that must succeed, and return its output."""
        ended = self.run_to_end("podman", *words, within=within)
        assert ended.code == 0, (words, ended)
        return ended.out.strip()

    def load(self, engine: Engine, image: str) -> None:
        """Load an image from a Docker engine."""
        archive = self.folder / "image.tar"
        engine.run("save", "--output", archive, image)
        self.podman("load", "--quiet", "--input", archive)
        archive.unlink()

    def create_secret(self, name: str, texts: Mapping[str, str]) -> None:
        """Create a Secret, as `kubectl create secret` does.

        Podman 4.3 mounts a Secret as it is: that of a manifest would be mounted as base64.
        """
        path = self.folder / "secret"
        path.write_text(json.dumps({"data": dict(texts)}), "utf-8")
        self.podman("secret", "create", name, path)
        path.unlink()

    @contextmanager
    def playing(self, rendered: list[Manifest]) -> Iterator[None]:
        """Run the Pod of some manifests."""
        path = self.folder / "play.yaml"
        path.write_text("---\n".join(json.dumps(manifest) + "\n" for manifest in rendered), "utf-8")
        self.podman("kube", "play", path)
        try:
            yield
        except BaseException as error:
            error.add_note(self.run_to_end("sh", "-c", LOGS).out)
            raise
        finally:
            self.podman("kube", "down", path)

    def inspect(self, container: str) -> dict[str, Any]:
        """Return the description of a container."""
        (known,) = json.loads(self.podman("inspect", container))
        return known

    def said(self, container: str, event: str) -> list[dict[str, Any]]:
        """Return the log lines of an event of a container."""
        lines = [json.loads(line) for line in self.podman("logs", container).splitlines()]
        return [line for line in lines if line["event"] == event]

    def is_done(self, container: str, code: str) -> bool:
        """Run Python code in a container, and return whether it succeeded."""
        return self.run_to_end("podman", "exec", container, "python3", "-c", code).code == 0

    def get(self, url: str) -> str:
        """Request a URL from here, as a kubelet does; return the status and the body."""
        return self.run_to_end(sys.executable, "-c", GET, url).out.strip()


@contextmanager
def a_node(folder: Path) -> Iterator[Node]:
    """Yield a node, and remove it afterwards."""
    (folder / "conf").write_text(CONFIGURATION, "utf-8")
    command = ["unshare", *NAMESPACES, *ENDS_WITH_PARENT, "sh", "-euc", HOLD_SCRIPT]
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
            assert holder.stdout
            assert holder.stdout.readline() == "held\n"
            yield Node(_child(holder.pid), folder)
    finally:
        remove_groups("libpod_parent")


def _child(process: int) -> int:
    return int(Path(f"/proc/{process}/task/{process}/children").read_text("utf-8"))
