"""Processes of the official SDK that use the simulator, without any code of ours."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.daemon_process import Place
from tests.support.secret_canaries import KEY

WAIT_SCRIPT = str(Path(__file__).with_name("sdk_wait.py"))
SUBMIT_SCRIPT = str(Path(__file__).with_name("sdk_submit.py"))
CLOSED = "http://127.0.0.1:9"


@dataclass(frozen=True)
class SdkView:
    """The SDK's status of a job, its list of jobs, and its output."""

    status: str | None
    jobs: list[dict[str, Any]] | None
    printed: str


@dataclass(frozen=True)
class SdkSubmissions:
    """The jobs that the SDK has submitted, what it got of them, and its output."""

    job_ids: list[str]
    outputs: list[str]
    cancellation: dict[str, Any]
    printed: str


@dataclass(frozen=True)
class SdkClient:
    """The SDK, and the API that it uses."""

    programs: Path
    place: Place

    async def wait_for(self, job_id: str, *, key: str = KEY) -> SdkView:
        """Wait for a job with the SDK, and return what it shows."""
        return SdkView(**json.loads(await self._run("python", WAIT_SCRIPT, job_id, key=key)))

    async def submit(self) -> SdkSubmissions:
        """Submit jobs with the SDK, and return what it shows."""
        return SdkSubmissions(**json.loads(await self._run("python", SUBMIT_SCRIPT, key=KEY)))

    async def list(self) -> list[dict[str, str]]:
        """Return the rows that the SDK's own command prints of all jobs."""
        table = await self._run("sutro", "jobs", "list", "--all", key=KEY)
        lines = [line.strip("│").split("┆") for line in table.splitlines() if "┆" in line]
        names, _, _, *rows = [[cell.strip() for cell in line] for line in lines]
        return [dict(zip(names, row, strict=True)) for row in rows]

    async def _run(self, program: str, *arguments: str, key: str) -> str:
        command = [str(self.programs / program), *arguments]
        async with self.place.started(command, self._environment(key)) as view:
            code = await view.end(within=120.0)
        assert code == 0, view.err
        return view.out

    def _environment(self, key: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.place.folder / "home"),
            "TZ": "UTC",
            "SUTRO_API_URL": self.place.api_url,
            "SUTRO_API_KEY": key,
            # At each start the SDK requests its newest version from PyPI; here it gets no response.
            "HTTPS_PROXY": CLOSED,
            "POLARS_TABLE_WIDTH": "2000",
        }
