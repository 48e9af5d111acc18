"""A client of a simulator whose clock is set by hand."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from poller.sutro.simulator.server import Simulator, serve

START = 1_705_314_600.0  # 2024-01-15T10:30:00Z


@dataclass
class ManualClock:
    """A clock that a test sets by hand."""

    now: float = START

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@dataclass
class SimulatorClient:
    """A client of a simulator that is being served."""

    base: str
    simulator: Simulator
    clock: ManualClock
    session: aiohttp.ClientSession
    key: str = "sk_simulator"
    response: aiohttp.ClientResponse = field(init=False, repr=False)

    async def request(self, path: str, method: str = "GET", /, **fields: Any) -> tuple[int, Any]:
        """Send a request; return its status and its JSON, None for no body."""
        headers = {"Authorization": f"Key {self.key}"}
        body = json.dumps(fields) if fields else None
        async with self.session.request(
            method, self.base + path, headers=headers, data=body
        ) as self.response:
            text = await self.response.text()
        return self.response.status, json.loads(text) if text else None


@asynccontextmanager
async def simulator_client() -> AsyncIterator[SimulatorClient]:
    """Serve a simulator with a clock that stands still, and yield its client."""
    clock = ManualClock()
    simulator = Simulator(now=clock)
    async with serve(simulator) as base, aiohttp.ClientSession() as session:
        yield SimulatorClient(base, simulator, clock, session)
