"""Mails: an event as the bytes of a message with a text and an HTML part."""

from collections.abc import Sequence
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from html import escape
from typing import Final

from poller.core.events import Event
from poller.sinks.text import COLORS, Message, cut, describe

SENDER_NAME: Final = "sutro-poller"
MAX_SUBJECT: Final = 200
WORD_JOINER: Final = "\u2060"
"""Put into the beginning of an encoded word (RFC 2047), which programs would decode in a name."""
ENCODING: Final = "quoted-printable"
"""Any server takes it: its lines are short and ASCII."""

PAGE: Final = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<meta name="supported-color-schemes" content="light dark"></head>
<body style="margin:0;padding:16px;font:16px/1.5 -apple-system,'Segoe UI',Roboto,Arial,sans-serif">
<div style="max-width:600px;border-left:4px solid {color};padding:2px 0 2px 16px;\
overflow-wrap:anywhere">
{parts}
</div></body></html>
"""
HEADLINE: Final = '<h1 style="margin:0;font-size:18px;line-height:1.4">{}</h1>'
PARAGRAPH: Final = '<p style="margin:12px 0 0">{}</p>'
TABLE: Final = '<table style="margin:12px 0 0;border-collapse:collapse;font-size:14px">{}</table>'
FACT: Final = """
<tr><td style="padding:2px 16px 2px 0;opacity:.7">{}</td><td style="padding:2px 0">{}</td></tr>"""
BUTTON: Final = (
    '<p style="margin:16px 0 0"><a href="{}" style="display:inline-block;padding:8px 16px;'
    "border-radius:6px;background:#1f5fbf;color:#ffffff;text-decoration:none;font-size:14px"
    '">Open the job</a></p>'
)
"""Styles are inline, since many programs drop others. Only the bar and the button have colors of
their own: a program shows the text in what suits its own background, light or dark.
"""


def compose(
    event: Event, job_url: str | None, *, sender: str, recipients: Sequence[str], now: datetime
) -> bytes:
    """Return the mail of an event. Its Message-ID depends on the event and the sender alone."""
    message, domain = describe(event, job_url), sender.rpartition("@")[2]
    mail = EmailMessage(SMTP)
    mail["From"] = Address(SENDER_NAME, addr_spec=sender)
    mail["To"] = ", ".join(recipients)
    mail["Subject"] = cut(message.headline, MAX_SUBJECT).replace("=?", f"={WORD_JOINER}?")
    mail["Date"] = now
    mail["Message-ID"] = f"<{event.id}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's vacation notice responds
    mail.set_content(message.text, cte=ENCODING)
    mail.add_alternative(html(message), subtype="html", cte=ENCODING)
    # The library puts a long ID into a line of its own, in which some programs do not find it.
    return bytes(mail).replace(b"\r\nMessage-ID:\r\n <", b"\r\nMessage-ID: <", 1)


def html(message: Message) -> str:
    """Return a message as a page that reads well in light and dark."""
    facts = "".join(FACT.format(escape(label), escape(value)) for label, value in message.facts)
    parts = [
        HEADLINE.format(escape(message.headline)),
        PARAGRAPH.format("<br>".join(map(escape, message.rows))) if message.rows else "",
        PARAGRAPH.format(escape(message.reason)) if message.reason else "",
        TABLE.format(facts) if facts else "",
        PARAGRAPH.format(escape(message.advice)) if message.advice else "",
        BUTTON.format(escape(message.link)) if message.link else "",
    ]
    return PAGE.format(color=COLORS[message.tone], parts="\n".join(filter(None, parts)))
