"""What is rendered for Kubernetes: by the schemas of its versions, and as Pods that run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.deploy.cluster import (
    KINDS,
    KUBERNETES,
    Manifest,
    manifests,
    of_kind,
    overlaid,
    pod_of,
    render,
)
from tests.deploy.engine import IMAGE, Engine
from tests.deploy.node import Node, a_node
from tests.deploy.programs import check, eventually, need
from tests.support.daemon_process import PACE
from tests.support.secret_canaries import KEY, SECRET

pytestmark = pytest.mark.deploy

VERSIONS: Final = ("1.29.0", "1.37.0")
"""The first one whose sidecars need no feature gate, and the newest one that can be checked."""

SUBMITTER: Final = "localhost/submitter:tested"
SUBMIT: Final = f"""\
FROM {IMAGE}
USER 0
RUN printf '#!/bin/sh\\necho job-1\\n' > /usr/local/bin/submit && chmod +x /usr/local/bin/submit
USER 10001:10001
"""
"""The image of a program that prints the ids of what it has submitted."""

IMAGES: Final = {"sutro-poller": IMAGE, "submitter": SUBMITTER}
SECRETS: Final = {"SUTRO_API_KEY": KEY, "POLLER_WEBHOOK_SECRET": SECRET}
SETTINGS: Final = PACE | {
    "SUTRO_API_URL": "http://127.0.0.1:8378",
    "POLLER_WEBHOOK_URL": "",
    "POLLER_DISCOVER_INTERVAL": "1s",
}

API: Final = {"name": "api", "image": IMAGE, "args": ["simulate", "--jobs", "1", "--key", KEY]}
"""A simulated API beside the poller, since the Pod's network leads nowhere."""

CREATE: Final = """\
import urllib.request
job = b'{"job_id": "job-1", "queue_seconds": 0, "run_seconds": 0.2}'
request = urllib.request.Request("http://127.0.0.1:8378/simulator/jobs", job)
request.add_header("Content-Type", "application/json")
urllib.request.urlopen(request)
"""

VOLUMES: Final = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Give a place where Pods run."""
    need("podman", "nsenter")
    with a_node(tmp_path) as it:
        it.keep("sutro-poller", SECRETS)
        yield it


def rendered(kind: str) -> list[Manifest]:
    """Render what ships."""
    need("kubectl")
    return manifests(render(KUBERNETES / kind))


def with_an_api(of: str, name: str) -> Manifest:
    """Give a patch that puts the API into the Pods of a Deployment or a Job."""
    kind, version = ("Job", "batch/v1") if of == "job" else ("Deployment", "apps/v1")
    spec = {"template": {"spec": {"containers": [API]}}}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def laid(kind: str, name: str, folder: Path) -> list[Manifest]:
    """Render a kustomization for a node that has nothing but what is here."""
    need("kubectl")
    overlay, patch = folder / "overlay", with_an_api(kind, name)
    overlay.mkdir()
    return overlaid(kind, overlay, images=IMAGES, settings=SETTINGS, patch=patch)


def openings(pod: Manifest, container: Manifest) -> list[str]:
    """Name what the restricted Pod security standard would find wrong."""
    context = pod.get("securityContext", {}) | container.get("securityContext", {})
    rules = {
        "runAsNonRoot": context.get("runAsNonRoot") is True,
        "seccompProfile": context.get("seccompProfile") == {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": context.get("allowPrivilegeEscalation") is False,
        "capabilities": context.get("capabilities") == {"drop": ["ALL"]},
        "runAsUser": context.get("runAsUser") != 0,
        "host": not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(),
        "volumes": all(VOLUMES & it.keys() for it in pod["volumes"]),
    }
    return [name for name, is_kept in rules.items() if not is_kept]


def containers_of(pod: Manifest) -> list[Manifest]:
    """Give all containers of a Pod."""
    return [*pod.get("initContainers", []), *pod["containers"]]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_the_version_knows(kind: str, version: str, tmp_path: Path):
    """Every field of every manifest is one that this version of Kubernetes has."""
    path = tmp_path / "rendered.yaml"
    path.write_text(render(KUBERNETES / kind), "utf-8")
    ended = check("kubernetes-validate", "--strict", "--quiet", "-k", version, path)

    assert ended.code == 0, ended


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_restricted(kind: str):
    """All containers keep the restricted standard; the poller cannot write to its root either."""
    pod = pod_of(rendered(kind))
    poller = next(it for it in containers_of(pod) if it["name"] == "poller")

    assert [openings(pod, it) for it in containers_of(pod)] == [[]] * len(containers_of(pod))
    assert poller["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize("kind", KINDS)
def test_its_state_is_on_the_volume_that_comes_with_it(kind: str):
    """The folder of the database is a claim that is rendered too, and one Pod at a time has it."""
    made = rendered(kind)
    pod = pod_of(made)
    poller = next(it for it in containers_of(pod) if it["name"] == "poller")
    store = next((it["value"] for it in poller["env"] if it["name"] == "POLLER_STORE"), "/state/s")
    mount = next(it for it in poller["volumeMounts"] if store.startswith(it["mountPath"] + "/"))
    volume = next(it for it in pod["volumes"] if it["name"] == mount["name"])
    claim = of_kind("PersistentVolumeClaim", made)["metadata"]["name"]

    assert volume["persistentVolumeClaim"]["claimName"] == claim
    for it in (it["spec"] for it in made if it["kind"] == "Deployment"):
        assert (it["replicas"], it["strategy"]) == (1, {"type": "Recreate"})


def test_the_sidecar_is_one():
    """It starts before the app and stops after it, and has the app's volume of job ids."""
    pod = pod_of(rendered("sidecar"))
    (poller,) = pod["initContainers"]
    (app,) = pod["containers"]
    (jobs,) = app["volumeMounts"]

    assert poller["restartPolicy"] == "Always"
    assert {"name": jobs["name"], "mountPath": "/jobs", "subPath": "jobs", "readOnly": True} in (
        poller["volumeMounts"]
    )


def test_a_pod_of_the_deployment_runs(engine: Engine, image: str, node: Node, tmp_path: Path):
    """It takes its secrets from files, answers probes by its address, and tells of a new job."""
    poller = "sutro-poller-pod-0-poller"
    node.load(engine, image)
    with node.playing(laid("deployment", "sutro-poller", tmp_path)):
        address = address_of(node, poller)
        eventually(lambda: node.ask(f"{address}/readyz").startswith("200 "))
        live, jobs = node.ask(f"{address}/livez"), node.ask(f"{address}/v1/jobs")
        metrics = node.ask(f"{address}/metrics")
        eventually(lambda: node.is_done("sutro-poller-pod-0-api", CREATE))
        ended = eventually(lambda: node.said(poller, "job.succeeded"))
        node.podman("stop", "--time", 15, poller)
        state = node.inspect(poller)["State"]

    assert live.startswith("200 ")
    assert metrics.startswith("200 ")
    assert jobs.startswith("403 ")
    assert "job-1" in {it["job"]["job_id"] for it in ended}
    assert state["ExitCode"] == 0


def test_a_pod_of_the_job_ends_with_its_jobs(
    engine: Engine, image: str, node: Node, tmp_path: Path
):
    """What its first container submits is watched; it exits with 0 when all has ended."""
    (tmp_path / "submitter").mkdir()
    (tmp_path / "submitter" / "Dockerfile").write_text(SUBMIT, "utf-8")
    engine.run("build", "--network=host", f"--tag={SUBMITTER}", tmp_path / "submitter")
    for it in (image, SUBMITTER):
        node.load(engine, it)
    with node.playing(as_pods(laid("job", "batch", tmp_path))):
        eventually(lambda: node.is_done("batch-api", CREATE))
        code = node.podman("wait", "batch-poller")
        ended = node.said("batch-poller", "job.succeeded")

    assert code == "0"
    assert [it["job"]["job_id"] for it in ended] == ["job-1"]


def address_of(node: Node, container: str) -> str:
    """Give the address at which a kubelet finds a container."""
    networks: dict[str, Any] = node.inspect(container)["NetworkSettings"]["Networks"]
    (network,) = networks.values()
    return f"http://{network['IPAddress']}:8377"


def as_pods(made: list[Manifest]) -> list[Manifest]:
    """Put the Pod in place of its Job, which podman 4.3 does not know."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "batch"}, "spec": pod_of(made)}
    return [pod if it["kind"] == "Job" else it for it in made]
