"""The manifests for Kubernetes: by the schemas of its versions, and as running Pods."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from poller.config import load
from poller.core.errors import ConfigError
from tests.deploy.cluster import (
    KINDS,
    KUBERNETES,
    Manifest,
    manifests,
    of_kind,
    overlaid,
    pod_of,
    render,
    template_of,
)
from tests.deploy.engine import IMAGE, Engine
from tests.deploy.node import Node, a_node
from tests.deploy.programs import check, eventually, need
from tests.support.daemon_process import PACE
from tests.support.secret_canaries import KEY, SECRET

pytestmark = pytest.mark.deploy

VERSIONS: Final = ("1.29.0", "1.37.0")
"""The first version whose sidecars need no feature gate, and the newest that can be checked."""

SUBMITTER: Final = "localhost/submitter:tested"
SUBMIT: Final = f"""\
FROM {IMAGE}
USER 0
RUN printf '#!/bin/sh\\necho job-1\\n' > /usr/local/bin/submit && chmod +x /usr/local/bin/submit
USER 10001:10001
"""
"""The image of a program that prints the ids of its jobs."""

IMAGES: Final = {"sutro-poller": IMAGE, "submitter": SUBMITTER}
SECRETS: Final = {"SUTRO_API_KEY": KEY, "POLLER_WEBHOOK_SECRET": SECRET}
SETTINGS: Final = PACE | {
    "SUTRO_API_URL": "http://127.0.0.1:8378",
    "POLLER_SINKS": "log",
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
    """Yield a node where Pods run."""
    need("podman", "nsenter")
    with a_node(tmp_path) as node:
        node.create_secret("sutro-poller", SECRETS)
        yield node


def rendered(kind: str) -> list[Manifest]:
    """Render the manifests that ship."""
    need("kubectl")
    return manifests(render(KUBERNETES / kind))


def with_an_api(of: str, name: str) -> Manifest:
    """Return a patch that adds the API to the Pods of a Deployment or a Job."""
    kind, version = ("Job", "batch/v1") if of == "job" else ("Deployment", "apps/v1")
    spec = {"template": {"spec": {"containers": [API]}}}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def overlay_for(kind: str, name: str, folder: Path) -> list[Manifest]:
    """Render a kustomization for a node without a cluster."""
    need("kubectl")
    overlay, patch = folder / "overlay", with_an_api(kind, name)
    overlay.mkdir()
    return overlaid(kind, overlay, images=IMAGES, settings=SETTINGS, patch=patch)


def violations(pod: Manifest, container: Manifest) -> list[str]:
    """Return the violations of the restricted Pod security standard."""
    context = pod.get("securityContext", {}) | container.get("securityContext", {})
    rules = {
        "runAsNonRoot": context.get("runAsNonRoot") is True,
        "seccompProfile": context.get("seccompProfile") == {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": context.get("allowPrivilegeEscalation") is False,
        "capabilities": context.get("capabilities") == {"drop": ["ALL"]},
        "runAsUser": context.get("runAsUser") != 0,
        "host": not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(),
        "volumes": all(VOLUMES & volume.keys() for volume in pod["volumes"]),
    }
    return [name for name, is_kept in rules.items() if not is_kept]


def containers_of(pod: Manifest) -> list[Manifest]:
    """Return all containers of a Pod."""
    return [*pod.get("initContainers", []), *pod["containers"]]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_manifests_are_valid_for_the_version(kind: str, version: str, tmp_path: Path):
    """Every field of every manifest exists in this version of Kubernetes."""
    path = tmp_path / "rendered.yaml"
    path.write_text(render(KUBERNETES / kind), "utf-8")
    ended = check("kubernetes-validate", "--strict", "--quiet", "-k", version, path)

    assert ended.code == 0, ended


@pytest.mark.parametrize("kind", KINDS)
def test_pods_are_restricted(kind: str):
    """All containers meet the restricted standard; the poller's root is read-only too."""
    pod = pod_of(rendered(kind))
    poller = next(container for container in containers_of(pod) if container["name"] == "poller")

    assert [violations(pod, container) for container in containers_of(pod)] == [[]] * len(
        containers_of(pod)
    )
    assert poller["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize("kind", KINDS)
def test_kustomization_that_is_not_edited_is_rejected(kind: str):
    """Without its webhook's URL, a secret, a Pod does not start and says what is missing."""
    config_map = of_kind("ConfigMap", rendered(kind))
    given = {"HOME": "/state", "SUTRO_API_KEY": KEY, "POLLER_JOBS_FILE": "/jobs/jobs.txt"}

    with pytest.raises(ConfigError, match=r"^POLLER_WEBHOOK_URL: is required$"):
        load(given | config_map["data"])
    assert not [name for name in config_map["data"] if name.endswith("URL")]


@pytest.mark.parametrize("kind", KINDS)
def test_state_is_on_the_rendered_volume(kind: str):
    """The folder of the database is on a rendered claim, which one Pod uses at a time."""
    made = rendered(kind)
    pod = pod_of(made)
    poller = next(container for container in containers_of(pod) if container["name"] == "poller")
    store = next(
        (variable["value"] for variable in poller["env"] if variable["name"] == "POLLER_STORE"),
        "/state/s",
    )
    mount = next(
        mount for mount in poller["volumeMounts"] if store.startswith(mount["mountPath"] + "/")
    )
    volume = next(volume for volume in pod["volumes"] if volume["name"] == mount["name"])
    claim = of_kind("PersistentVolumeClaim", made)["metadata"]["name"]

    assert volume["persistentVolumeClaim"]["claimName"] == claim
    for spec in (manifest["spec"] for manifest in made if manifest["kind"] == "Deployment"):
        assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


@pytest.mark.parametrize("kind", KINDS)
def test_pod_monitor_selects_the_port_of_the_poller(kind: str, tmp_path: Path):
    """With the component, the Pods have the labels and the port that the monitor names."""
    need("kubectl")
    parts = {"resources": kind, "components": "monitoring"}
    overlay = {key: [os.path.relpath(KUBERNETES / name, tmp_path)] for key, name in parts.items()}
    (tmp_path / "kustomization.yaml").write_text(json.dumps(overlay), "utf-8")
    made = manifests(render(tmp_path))
    monitor = of_kind("PodMonitor", made)["spec"]
    template = template_of(made)
    poller = next(
        container for container in containers_of(template["spec"]) if container["name"] == "poller"
    )

    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert [endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]] == [
        port["name"] for port in poller["ports"]
    ]


def test_service_leads_to_the_pod():
    """The Service selects the Pods of the Deployment, and its port is that of the poller."""
    made = rendered("deployment")
    service, template = of_kind("Service", made)["spec"], template_of(made)
    (poller,) = template["spec"]["containers"]
    (port,) = service["ports"]

    assert service["selector"].items() <= template["metadata"]["labels"].items()
    assert port["targetPort"] in {port["name"] for port in poller["ports"]}


def test_sidecar_starts_first():
    """The sidecar starts before the app, stops after it, and mounts the app's volume of job ids."""
    pod = pod_of(rendered("sidecar"))
    (poller,) = pod["initContainers"]
    (app,) = pod["containers"]
    (jobs,) = app["volumeMounts"]

    assert poller["restartPolicy"] == "Always"
    assert {"name": jobs["name"], "mountPath": "/jobs", "subPath": "jobs", "readOnly": True} in (
        poller["volumeMounts"]
    )


def test_pod_of_the_deployment_runs(engine: Engine, image: str, node: Node, tmp_path: Path):
    """The Pod reads secrets from files, answers probes at its address, and reports a new job."""
    poller = "sutro-poller-pod-0-poller"
    node.load(engine, image)
    with node.playing(overlay_for("deployment", "sutro-poller", tmp_path)):
        address = address_of(node, poller)
        eventually(lambda: node.get(f"{address}/readyz").startswith("200 "))
        live, jobs = node.get(f"{address}/livez"), node.get(f"{address}/v1/jobs")
        metrics = node.get(f"{address}/metrics")
        eventually(lambda: node.is_done("sutro-poller-pod-0-api", CREATE))
        ended = eventually(lambda: node.said(poller, "job.succeeded"))
        node.podman("stop", "--time", 15, poller)
        state = node.inspect(poller)["State"]

    assert live.startswith("200 ")
    assert metrics.startswith("200 ")
    assert jobs.startswith("403 ")
    assert "job-1" in {event["job"]["job_id"] for event in ended}
    assert state["ExitCode"] == 0


def test_pod_of_the_job_ends_with_its_jobs(engine: Engine, image: str, node: Node, tmp_path: Path):
    """The Pod watches the jobs of its first container, and exits with 0 when all have ended."""
    (tmp_path / "submitter").mkdir()
    (tmp_path / "submitter" / "Dockerfile").write_text(SUBMIT, "utf-8")
    engine.run("build", "--network=host", f"--tag={SUBMITTER}", tmp_path / "submitter")
    for name in (image, SUBMITTER):
        node.load(engine, name)
    with node.playing(as_pods(overlay_for("job", "batch", tmp_path))):
        eventually(lambda: node.is_done("batch-api", CREATE))
        code = node.podman("wait", "batch-poller")
        ended = node.said("batch-poller", "job.succeeded")

    assert code == "0"
    assert [event["job"]["job_id"] for event in ended] == ["job-1"]


def address_of(node: Node, container: str) -> str:
    """Return the address that a kubelet uses for a container."""
    networks: dict[str, Any] = node.inspect(container)["NetworkSettings"]["Networks"]
    (network,) = networks.values()
    return f"http://{network['IPAddress']}:8377"


def as_pods(made: list[Manifest]) -> list[Manifest]:
    """Replace a Job by its Pod, since podman 4.3 does not know Jobs."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "batch"}, "spec": pod_of(made)}
    return [pod if manifest["kind"] == "Job" else manifest for manifest in made]
