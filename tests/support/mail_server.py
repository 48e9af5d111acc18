"""A mail server on loopback: aiosmtpd, with replies of our own."""

import asyncio
import email
import ssl
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default
from typing import Any, Final, cast

import anyio
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

HANGS: Final = "hangs"
"""The reply of a server that sends none."""
NEVER: Final = 1_000_000.0


@dataclass
class MailServer:
    """A mail server: the mails that it has, and the logins that it saw.

    `replies` are those to commands that it does not accept. DATA is the end of a mail; a server
    that hangs there has the mail. A recipient in `unknown` is rejected.
    """

    replies: Mapping[str, str] = field(default_factory=dict)
    unknown: str = ""
    port: int = 0
    mails: list[Envelope] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    sessions: int = 0

    @property
    def messages(self) -> list[EmailMessage]:
        """The mails, parsed."""
        contents = [cast("bytes", mail.content) for mail in self.mails]
        return [
            cast("EmailMessage", email.message_from_bytes(content, policy=default))
            for content in contents
        ]

    def message(self) -> EmailMessage:
        """Return the last mail, parsed."""
        return self.messages[-1]

    async def _reply(self, command: str) -> str:
        reply = self.replies.get(command, "250 OK")
        if reply == HANGS:
            await anyio.sleep(NEVER)
        return reply

    async def handle_EHLO(  # noqa: N802
        self, _server: SMTP, session: Session, _envelope: Envelope, name: str, replies: list[str]
    ) -> list[str]:
        """Accept a client by its name."""
        session.host_name = name
        return [await self._reply("EHLO")] if "EHLO" in self.replies else replies

    async def handle_MAIL(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        """Accept or reject a sender."""
        envelope.mail_from = address
        return await self._reply("MAIL")

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        """Accept or reject a recipient."""
        if address == self.unknown:
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return await self._reply("RCPT")

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Accept or reject a mail."""
        if self.replies.get("DATA", "250").startswith(("250", HANGS)):
            self.mails.append(envelope)
        reply = await self._reply("DATA")
        if reply == "closes":
            server.transport.abort()
        return reply

    async def handle_QUIT(  # noqa: N802
        self, _server: SMTP, _session: Session, _envelope: Envelope
    ) -> str:
        """End a session."""
        return "221 Bye" if "QUIT" not in self.replies else await self._reply("QUIT")

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _name: str, login: Any
    ) -> AuthResult:
        """Accept each login unless there is a reply to it."""
        assert isinstance(login, LoginPassword)
        self.logins.append((login.login.decode(), login.password.decode()))
        reply = self.replies.get("AUTH")
        return AuthResult(success=reply is None, handled=False, message=reply)


@asynccontextmanager
async def mail_server(
    *,
    tls: ssl.SSLContext | None = None,
    starttls: ssl.SSLContext | None = None,
    needs_login: bool = False,
    unknown: str = "",
    **replies: str,
) -> AsyncIterator[MailServer]:
    """Serve mail with TLS, with STARTTLS or in plain text."""
    state = MailServer(replies, unknown)

    def session() -> SMTP:
        state.sessions += 1
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            return SMTP(
                state,
                hostname="mail.example.com",
                tls_context=starttls,
                require_starttls=starttls is not None,
                auth_required=needs_login,
                auth_require_tls=False,  # it knows no TLS but that of STARTTLS, and warns of that
                authenticator=state.authenticate,
                loop=loop,
            )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(session, "127.0.0.1", 0, ssl=tls)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        await server.wait_closed()
