"""Sessions: a browser cannot send a bearer token, so a cookie shows that it has sent the right one.

The cookie is the HMAC of the token with a random key of this process: it ends with the process,
with the browser, or when the token changes.
"""

import hmac
from typing import Final

from aiohttp import web
from pydantic import SecretStr

from poller.api.context import ApiContext

STREAM_PATH: Final = "/v1/events/stream"


def has_session(request: web.Request, context: ApiContext, token: SecretStr) -> bool:
    """Return whether the request has the cookie of a login."""
    return is_equal(request.cookies.get(cookie_name(request), ""), cookie_value(context, token))


def cookie_name(request: web.Request) -> str:
    """Return the name of the cookie: a browser sends it to every port of a host."""
    return f"sutro_poller_{request.url.port}"


def cookie_value(context: ApiContext, token: SecretStr) -> str:
    """Return the value of the cookie."""
    return hmac.new(context.session_key, token.get_secret_value().encode(), "sha256").hexdigest()


def is_equal(sent: str, right: str) -> bool:
    """Return whether a secret is right, in a time that does not depend on where it is wrong."""
    return hmac.compare_digest(sent.encode(errors="replace"), right.encode())
