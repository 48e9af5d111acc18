"""Servers that are not who they say, now and then: the key is never sent to one."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count

import anyio
import pytest
import trustme
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

from tests.fault_injection.malformed import objects
from tests.fault_injection.odd_bodies import written
from tests.fault_injection.rig import SCALE, tally
from tests.fault_injection.world import World
from tests.support.http_peers import HANG_UP, answers, read_request
from tests.support.running_app import an_app, living, served
from tests.support.secret_canaries import KEY, SECRET
from tests.support.virtual_time import START

pytestmark = [pytest.mark.anyio, pytest.mark.virtual(limit=10_000.0)]

PROMISE = "a server with a bad certificate gets no request, and other polls continue"
PAST = datetime(2020, 1, 1, tzinfo=UTC)
PACE = {
    "POLLER_MIN_INTERVAL": "5s",
    "POLLER_LIST_PAGES": "off",
    "POLLER_MAX_INTERVAL": "5s",
    "POLLER_REQUESTS_PER_MINUTE": "6000",
    "POLLER_WEBHOOK_EVENTS": "*",
    "POLLER_WEBHOOK_SECRET": SECRET,
    "SUTRO_API_KEY": KEY,
}


def impostors(ca: trustme.CA) -> dict[str, trustme.LeafCert | None]:
    """Give the certificate of each; None never answers the handshake."""
    return {
        "expired": ca.issue_cert("127.0.0.1", not_before=PAST, not_after=PAST.replace(year=2021)),
        "wrong host": ca.issue_cert("api.example"),
        "unknown CA": trustme.CA().issue_cert("127.0.0.1"),
        "stalled": None,
    }


def context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """Make a server's context."""
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(made)
    return made


class Server:
    """An API over TLS that is an impostor to every second connection."""

    def __init__(self, good: ssl.SSLContext, bad: ssl.SSLContext | None, *, ends_at: int) -> None:
        self._good, self._bad, self._ends_at = good, bad, ends_at
        self._numbers: Iterator[int] = count()
        self.fooled: list[bytes] = []
        self.tried = 0
        self.looks: dict[str, list[float]] = {}

    async def serve(self, stream: ByteStream) -> None:
        """Take one connection."""
        try:
            if next(self._numbers) % 2:
                await self._deceive(stream)
            else:
                await self._answer(stream)
        except (ssl.SSLError, *HANG_UP):
            return
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(stream)

    async def _deceive(self, stream: ByteStream) -> None:
        self.tried += 1
        if self._bad is None:
            await anyio.sleep(100.0)
            return
        tls = await TLSStream.wrap(stream, server_side=True, ssl_context=self._bad)
        self.fooled.append(await tls.receive())

    async def _answer(self, stream: ByteStream) -> None:
        tls = await TLSStream.wrap(
            stream, server_side=True, ssl_context=self._good, standard_compatible=False
        )
        line = (await read_request(tls)).split(b"\r\n")[0].decode()
        job_id = line.split()[1].rpartition("/")[2]
        looks = self.looks.setdefault(job_id, [])
        looks.append(anyio.current_time())
        stage = 2 if len(looks) > self._ends_at else 1
        await answers(200, written(objects(job_id)[stage]))(tls)


@pytest.mark.parametrize("name", impostors(trustme.CA()))
async def test_impostors(name: str, tmp_path):
    """No byte of a request goes to an impostor, and every job's end is told all the same."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    bad = impostors(ca)[name]
    server = Server(
        context(ca.issue_cert("127.0.0.1")), bad and context(bad), ends_at=SCALE.cases(8, 100)
    )
    world = World(lambda: START.timestamp() + anyio.current_time(), SCALE.random("unused"))
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    base = f"https://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/v1"
    variables = PACE | {
        "POLLER_JOB_IDS": "job-1,job-2,job-3",
        "POLLER_CA_FILE": str(tmp_path / "ca.pem"),
    }
    async with listener, served(world.take) as hook, anyio.create_task_group() as group:
        group.start_soon(listener.serve, server.serve)
        async with living(an_app(base, hook, **variables)):
            with anyio.move_on_after(9_000.0):
                while len(world.arrivals) < 6:  # noqa: ASYNC110 - virtual time
                    await anyio.sleep(1.0)
        group.cancel_scope.cancel()

    told = sorted((it.job_id, it.type) for it in world.arrivals)
    violations = [f"{name} was asked: {it[:40]!r}" for it in server.fooled]
    violations += [] if len(set(told)) == 6 else [f"{name}: told only {told}"]
    tally(PROMISE, cases=server.tried, violations=violations)
