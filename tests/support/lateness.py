"""The lateness of a busy machine, which tests subtract from the delays that they measure."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

TICK_SECONDS: Final = 0.005
TOLERANCE_SECONDS: Final = 0.002


@dataclass
class Lateness:
    """Seconds that the machine took from a process and from this one since the start."""

    process_id: int
    own_seconds: float = 0.0
    waited_before: float = 0.0

    async def run(self) -> None:
        """Measure how late this process is, for ever."""
        while True:
            due = time.monotonic() + TICK_SECONDS
            await anyio.sleep(TICK_SECONDS)
            self.own_seconds += max(0.0, time.monotonic() - due - TOLERANCE_SECONDS)

    def __call__(self) -> float:
        """Return the seconds until now."""
        return self.own_seconds + self.waited() - self.waited_before

    def waited(self) -> float:
        """Return the seconds for which the process has waited for a processor (proc(5))."""
        _, waited, _ = Path(f"/proc/{self.process_id}/schedstat").read_text("ascii").split()
        return int(waited) / 1e9


@asynccontextmanager
async def measured_lateness(process_id: int) -> AsyncIterator[Lateness]:
    """Measure the lateness of a process and of this one while the block runs."""
    lateness = Lateness(process_id)
    lateness.waited_before = lateness.waited()
    async with anyio.create_task_group() as group:
        group.start_soon(lateness.run)
        yield lateness
        group.cancel_scope.cancel()
