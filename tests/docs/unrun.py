"""What pages show that these tests do not run, and why."""

from typing import Final

UNRUN: Final = {
    "git clone ": "needs a network",
    "docker ": "needs a container engine: tests/deploy builds and runs the image",
    "journalctl ": "needs a running systemd: tests/deploy boots one",
    "uv tool install ": "needs a package index: tests/sdk_compat installs the wheel with uv",
    "pipx install ": "needs a package index",
    "pip install ": "needs a package index: tests/e2e installs the wheel",
    "python3 -m venv ": "comes before pip install: tests/e2e makes such a venv",
    "npm install ": "needs a package index",
    'const { Webhook } = require("standardwebhooks");': "needs npm: tests/adapters runs it",
    "uvicorn ": "goes on until a signal: tests/e2e/test_recipes.py runs it",
    "flask ": "goes on until a signal: tests/e2e/test_recipes.py runs it",
    "python receive_aiohttp.py": "goes on until a signal: tests/e2e/test_recipes.py runs it",
    "node receive.js": "needs npm: tests/e2e/test_recipes.py runs it",
    "go run ": "needs Go: tests/e2e/test_recipes.py runs it",
    "cp receive_lambda.py ": "needs zip: tests/e2e/test_recipes.py calls the handler",
    "from sutro import Sutro": "needs the official SDK: tests/sdk_compat submits so",
    "make ": "runs this suite, or longer",
    "webhook -hooks ": "a program of Debian: tests/adapters/test_receivers.py runs these commands",
}
"""How a command, or the first line of a block, begins, and the reason not to run it."""


def reason_not_to_run(text: str) -> str | None:
    """Return why a command is not run; None when it is."""
    found = (reason for start, reason in UNRUN.items() if text.lstrip().startswith(start))
    return next(found, None)
