"""Third-party receivers, in other languages, accept the requests of the webhook sink."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from poller.core.errors import DeliveryError
from tests.support.http_peers import peer, responds
from tests.support.node_packages import STANDARD_WEBHOOKS, install_node_packages, needs_npm
from tests.support.ports import reserved_port
from tests.support.waiting import until
from tests.support.webhook_sinks import BODY, DELIVERY, NEW, OLD, received, sink

RECEIVERS: Final = Path(__file__).parents[1] / "receivers"
SIMPLE: Final = "hooks.json"
WHOLE: Final = "hooks-standard.json"
THIRD: Final = OLD[:-4] + "AAAA"
TOKEN: Final = 'a "token" of one\'s own'

needs_webhook = pytest.mark.skipif(
    not shutil.which("webhook"), reason="adnanh's webhook is not installed: apt-get install webhook"
)


@asynccontextmanager
async def webhook_program(folder: Path, secret: str, *, hooks: str) -> AsyncIterator[str]:
    """Run Debian's `webhook` with rules and a script of the README, and yield its URL."""
    shutil.copytree(RECEIVERS, folder, dirs_exist_ok=True)
    with reserved_port() as port:
        async with served(folder, secret, hooks, port):
            yield f"http://127.0.0.1:{port}/hooks/sutro"


@asynccontextmanager
async def served(folder: Path, secret: str, hooks: str, port: int) -> AsyncIterator[None]:
    """Run it on a port until the block ends."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOOK_TOKEN": TOKEN,
        "POLLER_WEBHOOK_SECRET": secret,
    }
    command = ["webhook", "-hooks", hooks, "-template", "-ip", "127.0.0.1", "-port"]
    process = await anyio.open_process(
        [*command, str(port)],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await until(lambda: is_open(port))
        yield
    finally:
        process.kill()
        await process.aclose()


def is_open(port: int) -> bool:
    """Return whether a port of this machine is open."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def headers(token: str = TOKEN) -> str:
    """Return the value of POLLER_WEBHOOK_HEADERS."""
    return json.dumps({"X-Token": token})


@needs_webhook
@pytest.mark.parametrize(
    "secrets", [NEW, f"{NEW} {OLD}", f"{OLD} {NEW}"], ids=["one", "new first", "old first"]
)
async def test_adnanh_webhook_verifies_the_hub_signature(tmp_path: Path, secrets: str):
    """Its own rule accepts the signature of the body, also during a rotation."""
    async with (
        webhook_program(tmp_path, NEW, hooks=SIMPLE) as url,
        sink(url, secret=secrets, hub_signature="on") as hook,
    ):
        await hook.send(DELIVERY)

    assert (tmp_path / "events.jsonl").read_bytes() == BODY + b"\n"


@needs_webhook
@pytest.mark.parametrize(
    ("secrets", "is_on"),
    [(OLD, "on"), (f"{OLD} {THIRD}", "on"), (NEW, "off")],
    ids=["another", "two others", "unsigned"],
)
async def test_adnanh_webhook_rejects_wrong_hub_signatures(
    tmp_path: Path, secrets: str, is_on: str
):
    """Its own rule returns 403 for another secret, for two others, and without a signature."""
    async with (
        webhook_program(tmp_path, NEW, hooks=SIMPLE) as url,
        sink(url, secret=secrets, hub_signature=is_on) as hook,
    ):
        with pytest.raises(DeliveryError, match="returned 403"):
            await hook.send(DELIVERY)

    assert not (tmp_path / "events.jsonl").exists()


@needs_webhook
async def test_adnanh_webhook_verifies_with_a_script(tmp_path: Path):
    """A script behind it verifies the signature, also during a rotation."""
    async with (
        webhook_program(tmp_path, NEW, hooks=WHOLE) as url,
        sink(url, secret=f"{OLD} {NEW}", headers=headers()) as hook,
    ):
        await hook.send(DELIVERY)

    assert (tmp_path / "events.jsonl").read_bytes() == BODY + b"\n"


@needs_webhook
@pytest.mark.parametrize(
    ("secret", "token", "status"), [(OLD, TOKEN, 500), (NEW, "none", 403)], ids=["secret", "token"]
)
async def test_adnanh_webhook_rejects_a_wrong_secret_or_token(
    tmp_path: Path, secret: str, token: str, status: int
):
    """Another secret fails in the script, another token at the rule; nothing is accepted."""
    async with (
        webhook_program(tmp_path, NEW, hooks=WHOLE) as url,
        sink(url, secret=secret, headers=headers(token)) as hook,
    ):
        with pytest.raises(DeliveryError, match=f"returned {status}"):
            await hook.send(DELIVERY)

    assert not (tmp_path / "events.jsonl").exists()


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the official library for Node.js."""
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(RECEIVERS / "verify.js", folder)
    return install_node_packages(folder, STANDARD_WEBHOOKS)


def verified_by_node(folder: Path, **given: Any) -> subprocess.CompletedProcess[str]:
    """Verify a request with the library for Node.js."""
    return subprocess.run(
        ["node", "verify.js"],
        cwd=folder,
        input=json.dumps(given),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


@needs_npm
@pytest.mark.parametrize("secrets", [NEW, f"{OLD} {NEW}"], ids=["one", "rotated"])
async def test_node_library_verifies_a_webhook(node_folder: Path, secrets: str):
    """The official library for Node.js verifies a request and reads its body."""
    async with peer(responds(200)) as receiver, sink(receiver.base, secret=secrets) as hook:
        await hook.send(DELIVERY)
        sent, body = received(receiver)

    verified = verified_by_node(node_folder, secret=NEW, headers=sent, body=body.decode())

    assert json.loads(verified.stdout) == json.loads(BODY)


@needs_npm
async def test_node_library_rejects_another_secret(node_folder: Path):
    """The same library rejects a request that another secret has signed."""
    async with peer(responds(200)) as receiver, sink(receiver.base, secret=OLD) as hook:
        await hook.send(DELIVERY)
        sent, body = received(receiver)

    verified = verified_by_node(node_folder, secret=NEW, headers=sent, body=body.decode())

    assert verified.returncode == 1
    assert "No matching signature found" in verified.stderr
