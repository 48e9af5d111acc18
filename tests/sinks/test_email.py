"""The email sink against a real mail server: aiosmtpd."""

import re
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.headerregistry import Address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
import trustme

from poller.config import load
from poller.core.errors import ConfigError, DeliveryError
from poller.core.events import RECORDED_TYPES, EventOrigin
from poller.core.outbox import Delivery
from poller.delivery.attempt import attempt
from poller.runtime.http_values import OutboundSettings
from poller.settings import types
from poller.settings.base import RawSettings, Reloadable
from poller.settings.sources import EnvSources
from poller.sinks import Sink, SinkContext, email, load_kind, smtp
from poller.sinks.mail import MAX_SUBJECT, WORD_JOINER, html
from poller.sinks.samples import test_event as a_test_event
from poller.sinks.testing import sample_delivery
from poller.sinks.text import Message, Tone, cut, describe
from tests.support.config_builders import GOOD, load_errors
from tests.support.http_peers import peer, sends
from tests.support.mail_server import HANGS, MailServer, mail_server

pytestmark = pytest.mark.anyio

JOB_URL = "https://app.example/jobs/{job_id}"
HEADERS = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version"]
LOGIN = "joe%40example.com:c4n%2Fary-w0rd"
PASSWORD = "c4n/ary-w0rd"
SINK, SUSPECT, REJECTED = "is_sink_fault", "is_suspect", "is_rejected"
FLAGS = (SINK, SUSPECT, REJECTED, "is_permanent", "is_gone")
HOSTILE = (
    "x" * 10_000,
    "a\r\nBcc: evil@example.com\r\n\r\nbody",
    "a\nBcc: evil@example.com",
    "a\u2028Bcc: evil@example.com\x85Cc: evil@example.com\x00",
    "=?utf-8?q?Bcc=0D=0A?= evil@example.com, <evil@example.com>",
    "\u202etxt.exe \u05e9\u05dc\u05d5\u05dd \N{FAMILY}" * 20,
    "<script>alert(1)</script> &amp; \"quote\" 'quote'",
    ".\r\n.\r\nMAIL FROM:<evil@example.com>",
)


@asynccontextmanager
async def opened(
    server: MailServer | int,
    scheme: str = "smtp",
    login: str = "",
    *,
    ca_file: str | None = None,
    to: str = "ops@example.com",
) -> AsyncIterator[Sink]:
    """Open a sink that sends to a mail server."""
    port = server if isinstance(server, int) else server.port
    environ = {
        "POLLER_EMAIL_URL": f"{scheme}://{login and f'{login}@'}127.0.0.1:{port}",
        "POLLER_EMAIL_FROM": "poller@example.com",
        "POLLER_EMAIL_TO": to,
    }
    kind = load_kind("email")
    sources = EnvSources(environ=environ)
    settings = RawSettings.of(kind.settings, "POLLER_EMAIL_", sources).build()
    outbound = OutboundSettings(ca_file=ca_file, url_name="POLLER_EMAIL_URL")
    async with kind.open(Reloadable(settings), SinkContext(outbound, JOB_URL)) as sink:
        yield sink


async def failure(server: MailServer | int, *url: str, **options: Any) -> DeliveryError:
    """Send to a server that does not accept the mail; return the error as the daemon keeps it."""
    async with opened(server, *url, **options) as sink:
        error = await attempt(sink, sample_delivery("job.failed"), secrets=tuple)
    assert error
    assert PASSWORD not in repr(error)
    return error


def flags(error: DeliveryError) -> set[str]:
    """Return what an error says of the delivery."""
    assert error.retry_after is None
    return {name for name in FLAGS if getattr(error, name)}


@pytest.fixture
def authority(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """Return a certificate of the server, and the file of the authority that signed it."""
    authority, tls = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tls, str(tmp_path / "ca.pem")


async def test_mail_has_a_text_and_a_page():
    """A mail says all of the message in plain text, and again as a page with a link."""
    delivery = sample_delivery("job.failed", name="R&D", cost_estimate=0.025)
    async with mail_server() as server, opened(server, to="a@example.com b@example.com") as sink:
        await sink.send(delivery)

    mail, message = server.message(), describe(delivery.event, JOB_URL)
    assert mail.keys() == [*HEADERS, "Content-Type"]
    assert mail["From"].addresses == (Address("sutro-poller", "poller", "example.com"),)
    assert mail["To"] == "a@example.com, b@example.com"
    assert mail["Subject"] == "❌ R&D (job-12345) failed after 2m0s"
    assert mail["Message-ID"] == f"<{delivery.event.id}@example.com>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert abs(datetime.now(UTC) - mail["Date"].datetime).total_seconds() < 300
    text, page = (part.get_content() for part in mail.iter_parts())
    assert text.splitlines() == message.text.splitlines()
    for part in ("R&amp;D (job-12345)", "$0.0234 (estimated $0.0250)", message.reason):
        assert part in page
    assert '<a href="https://app.example/jobs/job-12345"' in page
    assert server.mails[0].mail_from == "poller@example.com"
    assert server.mails[0].rcpt_tos == ["a@example.com", "b@example.com"]


async def test_message_id_is_in_the_first_line_of_its_header():
    """Programs that read a header by lines find the ID, however long it is."""
    async with mail_server() as server, opened(server) as sink:
        await sink.send(sample_delivery())

    assert re.search(rb"\r\nMessage-ID: <evt_\w+@example.com>\r\n", server.mails[0].content)


@pytest.mark.parametrize("event_type", sorted(RECORDED_TYPES))
async def test_every_type_of_event_is_one_mail(event_type: str):
    """One event is one mail, and the 250 of the server acknowledges it."""
    now = datetime(2024, 1, 15, tzinfo=UTC)
    event = a_test_event(event_type, EventOrigin(deployment="a"), now, sink="email", instance="i")
    async with mail_server() as server, opened(server) as sink:
        await sink.send(Delivery(id=1, sink="email", event=event, created_at=0.0))

    assert len(server.mails) == 1
    assert server.message()["Subject"] == describe(event).headline


def test_page_has_the_lines_of_a_digest():
    """A digest is a list in the page, and not one long line."""
    message = Message(Tone.GOOD, "2 events", lines=("✅ a & b", "✅ c"), omitted=3)

    assert "✅ a &amp; b<br>✅ c<br>and 3 more</p>" in html(message)


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_name_is_no_header_and_no_recipient(name: str):
    """A name of any characters and length is text in the subject and the body, nothing else."""
    delivery = sample_delivery("job.failed", name=name, failure_reason={"message": name})
    async with mail_server() as server, opened(server) as sink:
        await sink.send(delivery)

    (envelope,), mail = server.mails, server.message()
    message = describe(delivery.event, JOB_URL)
    assert mail.keys() == [*HEADERS, "Content-Type"]
    assert mail["Subject"].replace(WORD_JOINER, "") == cut(message.headline, MAX_SUBJECT)
    assert envelope.rcpt_tos == ["ops@example.com"]
    assert max(map(len, envelope.content.splitlines())) < 100
    text, page = (part.get_content() for part in mail.iter_parts())
    assert text.splitlines() == message.text.splitlines()
    assert "<script>" not in page


async def test_a_name_in_any_script_is_readable():
    """A name that is not ASCII is the same in the subject and in both parts."""
    name = "Größenklassen 大きさ размер"
    async with mail_server() as server, opened(server) as sink:
        await sink.send(sample_delivery("job.failed", name=name))

    mail = server.message()
    assert name in mail["Subject"]
    assert all(name in part.get_content() for part in mail.iter_parts())


async def test_a_retry_has_the_same_message_id():
    """A mail that is sent again is known again: its ID depends on the event alone."""
    async with mail_server() as server, opened(server) as sink:
        ids = set()
        for _ in range(2):
            await sink.send(sample_delivery("job.failed"))
            ids.add(server.message()["Message-ID"])

    assert len(server.mails) == 2
    assert len(ids) == 1


async def test_login_over_tls(authority):
    """The scheme smtps encrypts from the first byte; the URL has the user and password."""
    tls, ca_file = authority
    async with (
        mail_server(tls=tls, needs_login=True) as server,
        opened(server, "smtps", LOGIN, ca_file=ca_file) as sink,
    ):
        await sink.send(sample_delivery())

    assert len(server.mails) == 1
    assert server.logins == [("joe@example.com", PASSWORD)]


async def test_login_after_starttls(authority):
    """smtp+starttls encrypts before it logs in."""
    tls, ca_file = authority
    async with (
        mail_server(starttls=tls, needs_login=True) as server,
        opened(server, "smtp+starttls", LOGIN, ca_file=ca_file) as sink,
    ):
        await sink.send(sample_delivery())

    assert len(server.mails) == 1
    assert server.logins == [("joe@example.com", PASSWORD)]


async def test_nothing_is_sent_without_starttls():
    """A server that does not offer STARTTLS gets neither the password nor a mail."""
    async with mail_server() as server:
        error = await failure(server, "smtp+starttls", LOGIN)

    assert "STARTTLS extension not supported" in error.reason
    assert error.is_sink_fault
    assert (server.logins, server.mails) == ([], [])


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
async def test_an_unknown_certificate_is_rejected(authority, scheme: str):
    """A server whose certificate is signed by nobody known gets nothing."""
    tls, _ = authority
    served = {"tls": tls} if scheme == "smtps" else {"starttls": tls}
    async with mail_server(**served) as server:
        error = await failure(server, scheme, LOGIN)

    assert re.search(r"not trusted \(.+\); check POLLER_EMAIL_URL and POLLER_CA_FILE", error.reason)
    assert (server.logins, server.mails) == ([], [])


async def test_a_rejected_login_is_a_failure_of_the_sink():
    """A wrong password fails the sink; the words of the server may repeat it, and are left out."""
    echo = f"535 5.7.8 not {PASSWORD}"
    async with mail_server(needs_login=True, AUTH=echo) as server:
        error = await failure(server, "smtp", LOGIN)

    assert flags(error) == {SINK}
    assert error.reason == (
        "127.0.0.1: the login was rejected (535); check the user and password in POLLER_EMAIL_URL"
    )


async def test_a_server_that_wants_a_login_is_a_failure_of_the_sink():
    """Without a user in the URL no event is at fault."""
    async with mail_server(needs_login=True) as server:
        error = await failure(server)

    assert flags(error) == {SINK}
    assert "the login was rejected (530)" in error.reason


@pytest.mark.parametrize(
    ("command", "reply", "fault"),
    [
        ("EHLO", "421 4.3.0 busy", {SINK}),
        ("MAIL", "451 4.3.0 later", {SINK}),
        ("MAIL", "550 5.7.60 not yours", {SUSPECT}),
        ("RCPT", "450 4.2.0 greylisted", {SINK}),
        ("RCPT", "550 5.1.1 no such user", {SUSPECT}),
        ("DATA", "451 4.3.0 later", {SINK}),
        ("DATA", "452 4.3.1 disk full", {SINK}),
        ("DATA", "552 5.3.4 too big", {REJECTED}),
        ("DATA", "554 no thanks", {REJECTED}),
        ("DATA", "550 5.4.5 daily limit", {SUSPECT}),
        ("DATA", "554 5.2.2 mailbox full", {SUSPECT}),
        ("DATA", "550 5.7.1 policy", {SUSPECT}),
    ],
)
async def test_a_rejection_faults_the_event_or_the_account(
    command: str, reply: str, fault: set[str]
):
    """A 4xx is retried. A 5xx faults this event, unless other events may meet it too."""
    async with mail_server(**{command: reply}) as server:
        error = await failure(server)

    assert flags(error) == fault
    assert error.reason.endswith(f"({reply[:3]}): {reply[4:]}")
    assert not server.mails


async def test_a_server_that_blocks_this_machine_is_a_failure_of_the_sink():
    """A greeting that is a rejection says nothing about the event."""
    async with peer(sends(b"554 5.7.1 blocked\r\n"), skips_request=True) as server:
        error = await failure(urlsplit(server.base).port)

    assert error.reason == "127.0.0.1: the server is not ready (554): 5.7.1 blocked"
    assert flags(error) == {SINK}


async def test_all_recipients_get_a_mail_or_none():
    """One rejected recipient holds the mail up for all, and is named: no retry sends it twice."""
    async with mail_server(unknown="typo@example.com") as server:
        error = await failure(server, to="a@example.com,typo@example.com")

    assert not server.mails
    assert "the recipient typo@example.com was rejected (550)" in error.reason


async def test_a_password_in_a_reply_is_masked():
    """A server that knows the password does not bring it into a reason."""
    async with mail_server(DATA=f"554 we know {PASSWORD}") as server:
        error = await failure(server, "smtp", LOGIN)

    assert error.reason == "127.0.0.1: the mail was rejected (554): we know ****"


async def test_a_server_that_closes_has_no_mail():
    """A connection that breaks after the content is no receipt."""
    async with mail_server(DATA="closes") as server:
        error = await failure(server)

    assert flags(error) == {SINK}


async def test_a_server_that_is_down_is_named():
    """A refused connection names the host and the setting."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = await failure(unused.getsockname()[1])

    assert flags(error) == {SINK}
    assert error.reason.startswith("127.0.0.1: cannot connect (")
    assert error.reason.endswith("; check POLLER_EMAIL_URL")


async def test_a_server_without_tls_at_its_port_is_explained():
    """The scheme smtps at a port of STARTTLS names the setting that has the scheme and the port."""
    async with mail_server() as server:
        error = await failure(server, "smtps")

    assert "the TLS handshake failed" in error.reason
    assert error.reason.endswith("check the scheme and the port in POLLER_EMAIL_URL")


class _Loopback:
    """A resolver without threads, which virtual time does not see."""

    async def resolve(self, host: str, port: int) -> list[dict[str, Any]]:
        return [{"family": socket.AF_INET, "host": host, "port": port}]


@pytest.mark.virtual(limit=100.0)
@pytest.mark.parametrize("command", ["EHLO", "MAIL", "RCPT", "DATA"])
async def test_a_server_that_hangs_is_left(monkeypatch, command: str):
    """A server that does not reply is left after the timeout, whichever command it is."""
    monkeypatch.setattr(smtp, "system_resolver", _Loopback)
    async with mail_server(**{command: HANGS}) as server:
        error = await failure(server)

    assert error.reason == "127.0.0.1: no complete response within 60 s"
    assert flags(error) == {SINK}
    assert anyio.current_time() <= 62.0


@pytest.mark.virtual(limit=100.0)
async def test_a_hang_after_the_receipt_is_no_failure(monkeypatch):
    """Once the server has the mail, nothing else matters, and it is not waited for."""
    monkeypatch.setattr(smtp, "system_resolver", _Loopback)
    async with mail_server(QUIT=HANGS) as server, opened(server) as sink:
        await sink.send(sample_delivery())

    assert len(server.mails) == 1
    assert anyio.current_time() <= smtp.QUIT_TIMEOUT


@pytest.mark.virtual(limit=100.0)
async def test_three_connections_are_open_at_most(monkeypatch):
    """More mails wait, since services limit the connections of an account."""
    monkeypatch.setattr(smtp, "system_resolver", _Loopback)
    async with (
        mail_server(DATA=HANGS) as server,
        opened(server) as sink,
        anyio.create_task_group() as group,
    ):
        for _ in range(8):
            group.start_soon(sink.send, sample_delivery())
        await anyio.sleep(30.0)
        group.cancel_scope.cancel()

    assert server.sessions == email.MAX_CONNECTIONS == 3


ADDRESS_RULE = "must be an address in ASCII such as ops@example.com"
SETTINGS = {
    "POLLER_EMAIL_URL": "smtps://joe:c4n4ry-5up3r@mail.example.com",
    "POLLER_EMAIL_TO": "a@example.com, b@example.com",
    "POLLER_EMAIL_FROM": "poller@example.com",
}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        *(
            ({"POLLER_EMAIL_URL": url}, f"POLLER_EMAIL_URL: {email.URL_RULE}")
            for url in (
                "https://5up3r@mail.example.com",
                "smtps://",
                "smtps://5up3r@mail.example.com",
                "smtps://joe:5up3r/x@mail.example.com",
                "smtps://joe:5up3r@mail.example.com/x",
                "smtps://joe:5up3r@mail.example.com?x=1",
                "smtps://joe:5up3r@mail.example.com:0",
            )
        ),
        (
            {"POLLER_EMAIL_URL": "smtp://joe:5up3r@mail.example.com"},
            "POLLER_EMAIL_URL: must be smtps or smtp+starttls, or set POLLER_ALLOW_HTTP=on",
        ),
        (
            {"POLLER_EMAIL_FROM": "a@example.com\nBcc: b@example.com"},
            f"POLLER_EMAIL_FROM: 'a@example.com\\nBcc: b@example.com' {ADDRESS_RULE}",
        ),
        (
            {"POLLER_EMAIL_TO": "a@example.com,ö@example.com"},
            f"POLLER_EMAIL_TO: 'ö@example.com' {ADDRESS_RULE}",
        ),
        (
            {"POLLER_SINKS": "email", "POLLER_EMAIL_FROM": ""},
            "POLLER_EMAIL_FROM: is required",
        ),
        (
            {"POLLER_EMAIL_TO": ""},
            f"POLLER_EMAIL_FROM: has no effect without {' and '.join(SETTINGS)}",
        ),
    ],
)
def test_a_wrong_setting_is_one_line(changes: dict[str, str], line: str):
    """Each problem names its variable and the rule, without a secret."""
    errors = load_errors(**SETTINGS | changes)

    assert line in errors
    assert "5up3r" not in "".join(errors)


def test_plain_smtp_is_allowed_to_this_machine_and_on_demand():
    """A relay on loopback needs no TLS; another host needs the permission."""
    for url, allowed in (("smtp://localhost", "off"), ("smtp://mail.example.com", "on")):
        config = load(GOOD | SETTINGS | {"POLLER_EMAIL_URL": url, "POLLER_ALLOW_HTTP": allowed})

        assert "email" in [sink.name for sink in config.sinks]


@pytest.mark.parametrize("extra", ["email", "apprise"])
def test_a_missing_library_is_one_line(monkeypatch, extra: str):
    """Without the library of a sink, the error says what to install."""
    monkeypatch.setattr(types, "find_spec", lambda _name: None)
    settings = SETTINGS if extra == "email" else {"POLLER_APPRISE_URL": "json://localhost"}
    with pytest.raises(ConfigError) as caught:
        load(GOOD | settings)

    variable = f"POLLER_{extra.upper()}_URL"
    assert caught.value.problems == (
        f"{variable}: needs a library: pip install 'sutro-poller[{extra}]'",
    )


def test_libraries_are_loaded_only_to_send():
    """Neither the settings nor a daemon without these sinks load their libraries."""
    code = (
        "import sys\n"
        "from poller.sinks import names_of_settings\n"
        "names_of_settings()\n"
        "print({'aiosmtplib', 'apprise', 'requests'} & {*sys.modules})"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=120)

    assert printed == "set()\n"
