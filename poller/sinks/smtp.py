"""Send one mail by SMTP (RFC 5321), and what the replies of the server mean for the delivery.

All recipients get a mail or none: one that only some of them got could not be retried.
"""

import re
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import unquote, urlsplit

import aiosmtplib
import anyio
from aiohappyeyeballs import start_connection

from poller.core.errors import DeliveryError
from poller.runtime.redaction import redact
from poller.runtime.resolver import system_resolver

TIMEOUT: Final = 60.0
"""Seconds that one mail may take: many servers inspect its content before they accept it."""
QUIT_TIMEOUT: Final = 1.0
"""Seconds that the end of a connection may take; the fate of the mail is known by then."""
CONNECT_DELAY: Final = 0.25
"""Seconds after which the next address of a host is tried too (RFC 8305)."""
CLIENT_NAME: Final = "[127.0.0.1]"
"""The name of a client that may have none in DNS is an address (RFC 5321 4.1.4)."""
PORTS: Final = {"smtps": 465, "smtp+starttls": 587, "smtp": 25}
LOGIN_CODES: Final = frozenset({530, 534, 535, 538})
ACCOUNT_CODE: Final = re.compile(r"5\.[247]\.\d")
"""Enhanced codes about a mailbox, a route or quota, or a policy (RFC 3463): other mails may fail
for the same reason.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """A mail server and the login to it. `name` is what messages call the setting of its URL."""

    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext
    name: str

    @classmethod
    def of(cls, url: str, tls: ssl.SSLContext, name: str) -> Self:
        """Return the server of a valid URL."""
        parts = urlsplit(url)
        return cls(
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=parts.port or PORTS[parts.scheme],
            user=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            tls=tls,
            name=name,
        )

    async def send(self, mail: bytes, sender: str, recipients: tuple[str, ...]) -> None:
        """Send a mail; return when the server has accepted it. Raises DeliveryError."""
        try:
            await self._send(mail, sender, recipients)
        except aiosmtplib.SMTPResponseException as error:
            raise self._rejection(error) from None
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise DeliveryError(f"{self.host}: {self._explain(error)}") from None

    async def _send(self, mail: bytes, sender: str, recipients: tuple[str, ...]) -> None:
        client = aiosmtplib.SMTP(
            hostname=self.host,
            username=self.user,
            password=self.password,
            local_hostname=CLIENT_NAME,
            timeout=TIMEOUT,
            use_tls=self.scheme == "smtps",
            start_tls=self.scheme == "smtp+starttls",
            tls_context=self.tls,
        )
        try:
            with anyio.fail_after(TIMEOUT):
                await client.connect(sock=await self._open_socket())
                await client.mail(sender)
                for recipient in recipients:
                    await client.rcpt(recipient)
                await client.data(mail)
        finally:
            with (
                anyio.move_on_after(QUIT_TIMEOUT, shield=True),
                suppress(aiosmtplib.SMTPException, OSError),
            ):
                await client.quit()
            client.close()

    async def _open_socket(self) -> socket.socket:
        """Connect to the host, whose name is looked up in no thread that others wait for."""
        found = await system_resolver().resolve(self.host, self.port)
        addresses = [
            (
                address["family"],
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (address["host"], self.port),
            )
            for address in found
        ]
        return await start_connection(addresses, happy_eyeballs_delay=CONNECT_DELAY)

    def _rejection(self, error: aiosmtplib.SMTPResponseException) -> DeliveryError:
        """Return the error of a reply: a 5xx about the content faults this event alone."""
        if isinstance(error, aiosmtplib.SMTPAuthenticationError) or error.code in LOGIN_CODES:
            # Without the words of the server: some repeat the command, which has the password.
            advice = f"check the user and password in {self.name}"
            return DeliveryError(f"{self.host}: the login was rejected ({error.code}); {advice}")
        secrets = (self.password or "", f"\0{self.user}\0{self.password}")
        words = redact(error.message, secrets)
        reason = f"{self.host}: {_subject(error)} ({error.code}): {words}"
        if error.code < 500:
            return DeliveryError(reason)
        is_content = isinstance(error, aiosmtplib.SMTPDataError)
        is_address = isinstance(
            error, aiosmtplib.SMTPSenderRefused | aiosmtplib.SMTPRecipientRefused
        )
        is_rejected = is_content and not ACCOUNT_CODE.match(error.message)
        return DeliveryError(
            reason,
            is_sink_fault=not (is_content or is_address),
            is_suspect=(is_content or is_address) and not is_rejected,
            is_rejected=is_rejected,
        )

    def _explain(self, error: Exception) -> str:
        """Return the message for a connection that failed."""
        cause = error.__cause__ or error
        match cause:
            case TimeoutError():
                return f"no complete response within {TIMEOUT:g} s"
            case ssl.SSLCertVerificationError():
                advice = f"check {self.name} and POLLER_CA_FILE"
                return f"its TLS certificate is not trusted ({cause.verify_message}); {advice}"
            case ssl.SSLError():
                advice = f"check the scheme and the port in {self.name}"
                return f"the TLS handshake failed ({cause.reason}); {advice}"
            case socket.gaierror():
                return f"the name does not resolve ({cause.strerror}); check {self.name}"
            case OSError(strerror=str(words)):
                return f"cannot connect ({words}); check {self.name}"
        return str(cause)


def _subject(error: aiosmtplib.SMTPResponseException) -> str:
    """Return what a reply rejects."""
    match error:
        case aiosmtplib.SMTPSenderRefused():
            return f"the sender {error.sender} was rejected"
        case aiosmtplib.SMTPRecipientRefused():
            return f"the recipient {error.recipient} was rejected"
        case aiosmtplib.SMTPDataError():
            return "the mail was rejected"
    return "the server is not ready"
