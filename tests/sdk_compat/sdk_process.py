"""Visits of the official SDK to the simulator: processes that have nothing of ours in them."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.daemon_process import Place
from tests.support.secret_canaries import KEY

ASK = str(Path(__file__).with_name("sdk_wait.py"))
CLOSED = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Visit:
    """What the SDK told of a job: its status, all jobs, and what it printed meanwhile."""

    status: str | None
    jobs: list[dict[str, Any]] | None
    said: str


@dataclass(frozen=True)
class Witness:
    """The SDK, and the place whose API it asks."""

    programs: Path
    place: Place

    async def ask(self, job_id: str, *, key: str = KEY) -> Visit:
        """Let the SDK wait for a job and then tell of it."""
        return Visit(**json.loads(await self._run("python", ASK, job_id, key=key)))

    async def list(self) -> list[dict[str, str]]:
        """Give the rows that the SDK's own command shows of all jobs."""
        table = await self._run("sutro", "jobs", "list", "--all", key=KEY)
        lines = [line.strip("│").split("┆") for line in table.splitlines() if "┆" in line]
        names, _, _, *rows = [[cell.strip() for cell in line] for line in lines]
        return [dict(zip(names, row, strict=True)) for row in rows]

    async def _run(self, program: str, *arguments: str, key: str) -> str:
        command = [str(self.programs / program), *arguments]
        async with self.place.started(command, self._environment(key)) as visit:
            code = await visit.end(within=60.0)
        assert code == 0, visit.err
        return visit.out

    def _environment(self, key: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.place.folder / "home"),
            "TZ": "UTC",
            "SUTRO_API_URL": self.place.api_url,
            "SUTRO_API_KEY": key,
            # At each start the SDK asks PyPI for its newest version; here it gets no answer.
            "HTTPS_PROXY": CLOSED,
            "POLARS_TABLE_WIDTH": "2000",
        }
