"""Somebody who talks to a simulator, on a clock that is moved by hand."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from poller.sutro.simulator.server import Simulator, serve

START = 1_705_314_600.0  # 2024-01-15T10:30:00Z


@dataclass
class Hand:
    """A clock that a test moves by hand."""

    at: float = START

    def __call__(self) -> float:
        """Say what time it is."""
        return self.at


@dataclass
class Customer:
    """Somebody who talks to a simulator that is being served."""

    base: str
    simulator: Simulator
    clock: Hand
    session: aiohttp.ClientSession
    key: str = "sk_simulator"
    answer: aiohttp.ClientResponse = field(init=False, repr=False)

    async def ask(self, path: str, method: str = "GET", /, **fields: Any) -> tuple[int, Any]:
        """Make a request; say its status and its JSON, None for no body."""
        headers = {"Authorization": f"Key {self.key}"}
        body = json.dumps(fields) if fields else None
        async with self.session.request(
            method, self.base + path, headers=headers, data=body
        ) as self.answer:
            text = await self.answer.text()
        return self.answer.status, json.loads(text) if text else None


@asynccontextmanager
async def open_customer() -> AsyncIterator[Customer]:
    """Serve a simulator to a customer whose clock stands still."""
    clock = Hand()
    simulator = Simulator(now=clock)
    async with serve(simulator) as base, aiohttp.ClientSession() as session:
        yield Customer(base, simulator, clock, session)
