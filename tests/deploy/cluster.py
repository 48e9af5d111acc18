"""The manifests of deploy/kubernetes, as they are and as a user changes them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.deploy.programs import output
from tests.support.installed_wheel import PROJECT

KUBERNETES: Final = PROJECT / "deploy" / "kubernetes"
KINDS: Final = ("deployment", "sidecar", "job")

Manifest = dict[str, Any]


def render(folder: Path) -> str:
    """Render a kustomization with kubectl."""
    return output(["kubectl", "kustomize", folder])


def manifests(text: str) -> list[Manifest]:
    """Parse rendered manifests."""
    return list(yaml.safe_load_all(text))


def of_kind(kind: str, rendered: list[Manifest]) -> Manifest:
    """Return the one manifest of a kind."""
    (found,) = (manifest for manifest in rendered if manifest["kind"] == kind)
    return found


def template_of(rendered: list[Manifest]) -> Manifest:
    """Return the Pod template of a Deployment or a Job."""
    (spec,) = (manifest["spec"] for manifest in rendered if "template" in manifest.get("spec", {}))
    return spec["template"]


def pod_of(rendered: list[Manifest]) -> Manifest:
    """Return the Pod spec of a Deployment or a Job."""
    return template_of(rendered)["spec"]


def overlaid(
    kind: str,
    folder: Path,
    *,
    images: Mapping[str, str],
    settings: Mapping[str, str],
    patch: Manifest,
) -> list[Manifest]:
    """Render a kustomization with a user's images and settings laid over it."""
    overlay = {
        "resources": [os.path.relpath(KUBERNETES / kind, folder)],
        "images": [_image(name, image) for name, image in images.items()],
        "configMapGenerator": [
            {
                "name": "sutro-poller",
                "behavior": "merge",
                "literals": [f"{name}={text}" for name, text in settings.items()],
            }
        ],
        "patches": [{"patch": json.dumps(patch)}],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(overlay), "utf-8")
    return manifests(render(folder))


def _image(name: str, image: str) -> dict[str, str]:
    new_name, _, tag = image.rpartition(":")
    return {"name": f"registry.example.com/{name}", "newName": new_name, "newTag": tag}
