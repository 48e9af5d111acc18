"""Verify a webhook as Standard Webhooks 1.0 specifies, and read its event."""

import base64
import hmac
import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

from poller.receive.events import (
    EVENT_TYPES,
    ITEM_TYPES,
    TIME_FIELDS,
    Detection,
    Event,
    Job,
    Overdue,
    UnobservedJob,
)

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the prefix of secrets, not a secret
TIME_TOLERANCE: Final = 300.0
"""Seconds that the timestamp of a webhook may be off, as in the libraries of Standard Webhooks."""
UNIX_TIME: Final = re.compile(r"[0-9]{1,12}")

OBJECT_TYPES: Final[Mapping[str, type]] = {"detection": Detection, "overdue": Overdue}

T = TypeVar("T")


class Headers(Protocol):
    """The headers of a request, such as those of every web framework."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Return the names, in upper or lower case, and the values."""


class InvalidWebhook(Exception):
    """The request is not a valid webhook of the daemon; respond with `status`.

    It is 401 for a signature or a time that is wrong. The daemon goes on retrying after that, so no
    event is lost while the two sides have different secrets. It is 400 for a signed body that is no
    event, such as one in another format.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


def verify(headers: Headers, body: bytes, secret: str, *, now: float | None = None) -> Event:
    """Return the event of a webhook that is signed and recent.

    `body` has the raw bytes of the request. `secret` is the value of POLLER_WEBHOOK_SECRET: one
    secret, or two during a rotation, of which either may have signed. `now` is the Unix time.
    Raises InvalidWebhook, and ValueError for a secret that cannot be one.
    """
    named = {name.lower(): text for name, text in headers.items()}
    event_id, timestamp = named.get("webhook-id", ""), named.get("webhook-timestamp", "")
    signed = f"{event_id}.{timestamp}.".encode(errors="replace") + body
    expected = [hmac.digest(key, signed, "sha256") for key in _keys(secret)]
    if not _is_any(expected, named.get("webhook-signature", "")):
        raise InvalidWebhook("the signature is missing or wrong", status=401)
    current = time.time() if now is None else now
    if not UNIX_TIME.fullmatch(timestamp) or abs(current - int(timestamp)) > TIME_TOLERANCE:
        raise InvalidWebhook("the timestamp is more than five minutes off", status=401)
    try:
        return _event(event_id, json.loads(body), is_replay=named.get("webhook-replay") == "1")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise InvalidWebhook("the body is no event in the format `standard`", status=400) from None


def _keys(secrets: str) -> list[bytes]:
    keys = []
    for secret in secrets.split():
        try:
            keys.append(base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True))
        except ValueError:
            raise ValueError("the secret must be whsec_ and base64") from None
    if not all(keys) or not keys:  # anyone can sign with an empty key
        raise ValueError("the secret is empty")
    return keys


def _is_any(expected: Iterable[bytes], signatures: str) -> bool:
    ours = [b"v1," + base64.b64encode(digest) for digest in expected]
    given = signatures.encode(errors="replace").split()
    return any(hmac.compare_digest(each, other) for each in ours for other in given)


def _event(event_id: str, body: Mapping[str, Any], *, is_replay: bool) -> Event:
    data = body["data"]
    own = {"id": event_id, "type": body["type"], "timestamp": body["timestamp"]}
    marks = {"is_test": data.get("test") is True, "is_replay": is_replay}
    return _read(EVENT_TYPES.get(body["type"], Event), {**data, **own, **marks, "data": data})


def _read(kind: type[T], given: Mapping[str, Any]) -> T:
    """Return a dataclass of its fields in an object; others are left out."""
    names = [field.name for field in fields(kind) if field.name in given]  # type: ignore[arg-type]
    return kind(**{name: _value(name, given[name]) for name in names})


def _value(name: str, given: Any) -> Any:
    if given is None:
        return None
    if name in TIME_FIELDS:
        return datetime.fromisoformat(given)
    if name in ITEM_TYPES:
        return [_read(ITEM_TYPES[name], item) for item in given]
    if name in OBJECT_TYPES:
        return _read(OBJECT_TYPES[name], given)
    if name == "job":
        return _read(UnobservedJob if given.keys() == {"job_id"} else Job, given)
    return given
