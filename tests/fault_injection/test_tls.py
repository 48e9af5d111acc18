"""Servers with bad certificates: the API key is never sent to one."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count

import anyio
import pytest
import trustme
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

from tests.fault_injection.fake_servers import FakeServers
from tests.fault_injection.harness import SCALE, tally
from tests.fault_injection.malformed import job_objects
from tests.fault_injection.response_bodies import job_body
from tests.support.http_peers import HANG_UP, read_request, responds
from tests.support.running_app import an_app, running_app, served
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


def bad_certificates(ca: trustme.CA) -> dict[str, trustme.LeafCert | None]:
    """Return the certificate of each; None never answers the handshake."""
    return {
        "expired": ca.issue_cert("127.0.0.1", not_before=PAST, not_after=PAST.replace(year=2021)),
        "wrong host": ca.issue_cert("api.example"),
        "unknown CA": trustme.CA().issue_cert("127.0.0.1"),
        "stalled": None,
    }


def context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """Return the context of a server."""
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(made)
    return made


class Server:
    """An API over TLS with a bad certificate for every second connection."""

    def __init__(self, good: ssl.SSLContext, bad: ssl.SSLContext | None, *, ends_at: int) -> None:
        self._good, self._bad, self._ends_at = good, bad, ends_at
        self._numbers: Iterator[int] = count()
        self.leaked_requests: list[bytes] = []
        self.attempts = 0
        self.polled_at: dict[str, list[float]] = {}

    async def serve(self, stream: ByteStream) -> None:
        """Serve one connection."""
        try:
            if next(self._numbers) % 2:
                await self._serve_bad_certificate(stream)
            else:
                await self._serve(stream)
        except (ssl.SSLError, *HANG_UP):
            return
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(stream)

    async def _serve_bad_certificate(self, stream: ByteStream) -> None:
        self.attempts += 1
        if self._bad is None:
            await anyio.sleep(100.0)
            return
        tls = await TLSStream.wrap(stream, server_side=True, ssl_context=self._bad)
        self.leaked_requests.append(await tls.receive())

    async def _serve(self, stream: ByteStream) -> None:
        tls = await TLSStream.wrap(
            stream, server_side=True, ssl_context=self._good, standard_compatible=False
        )
        line = (await read_request(tls)).split(b"\r\n")[0].decode()
        job_id = line.split()[1].rpartition("/")[2]
        polled_at = self.polled_at.setdefault(job_id, [])
        polled_at.append(anyio.current_time())
        stage = 2 if len(polled_at) > self._ends_at else 1
        await responds(200, job_body(job_objects(job_id)[stage]))(tls)


@pytest.mark.parametrize("name", bad_certificates(trustme.CA()))
async def test_bad_certificates_get_no_request(name: str, tmp_path):
    """A server with a bad certificate gets no byte of a request, and every end is reported."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    bad = bad_certificates(ca)[name]
    server = Server(
        context(ca.issue_cert("127.0.0.1")), bad and context(bad), ends_at=SCALE.cases(8, 100)
    )
    servers = FakeServers(lambda: START.timestamp() + anyio.current_time(), SCALE.random("unused"))
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    base = f"https://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/v1"
    variables = PACE | {
        "POLLER_JOB_IDS": "job-1,job-2,job-3",
        "POLLER_CA_FILE": str(tmp_path / "ca.pem"),
    }
    async with listener, served(servers.handle_event) as hook, anyio.create_task_group() as group:
        group.start_soon(listener.serve, server.serve)
        async with running_app(an_app(base, hook, **variables)):
            with anyio.move_on_after(9_000.0):
                while len(servers.received) < 6:  # noqa: ASYNC110 - virtual time
                    await anyio.sleep(1.0)
        group.cancel_scope.cancel()

    reported = sorted((event.job_id, event.type) for event in servers.received)
    violations = [f"{name} was polled: {request[:40]!r}" for request in server.leaked_requests]
    violations += [] if len(set(reported)) == 6 else [f"{name}: reported only {reported}"]
    tally(PROMISE, cases=server.attempts, violations=violations)
