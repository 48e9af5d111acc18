"""Who may ask.

Probes, metrics and the version are for all who can reach the door: whoever asks for them comes by
address, and without a token. For the rest a page that a browser of this machine shows is the
danger on loopback: it may send requests here, by this host or by a name that it owns.
"""

import hmac
import re
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from poller.api.context import CONTEXT, ApiContext
from poller.api.problems import Problem
from poller.runtime.address import LOCALHOST, is_ip

PUBLIC_PATHS: Final = frozenset({"/livez", "/readyz", "/healthz", "/metrics", "/version"})
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="sutro-poller"'}
JSON: Final = "application/json"
HOST: Final = re.compile(r"(?P<host>[a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.IGNORECASE)


@web.middleware
async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request through, or raise the Problem that it is."""
    if request.path not in PUBLIC_PATHS:
        context = request.app[CONTEXT]
        _check_host(request, context)
        _check_origin(request)
        _check_token(request, context)
        if request.body_exists and request.content_type != JSON:
            raise Problem("unsupported-media-type", f"its content type must be {JSON}")
    return await handler(request)


def _check_host(request: web.Request, context: ApiContext) -> None:
    """Refuse names that are not ours, which somebody may have made to point here.

    A socket has no name, and an address is nobody's.
    """
    named = HOST.fullmatch(request.host)
    host = named["host"].lower().strip("[]") if named else ""
    known = {LOCALHOST, context.address.host, *context.config.settings.allowed_hosts}
    if context.address.path is None and not is_ip(host) and host not in known:
        raise Problem(
            "unknown-host", "come by its address, or add the name to POLLER_ALLOWED_HOSTS"
        )


def _check_origin(request: web.Request) -> None:
    origin, host = request.headers.get("Origin"), request.host.lower()
    # A proxy before the door may speak TLS.
    if origin is not None and origin.lower() not in {f"http://{host}", f"https://{host}"}:
        raise Problem("cross-origin", "its Origin is not this host")


def _check_token(request: web.Request, context: ApiContext) -> None:
    token = context.config.settings.listen_token
    if token is None:
        if not context.address.is_local:
            raise Problem("forbidden", "set POLLER_LISTEN_TOKEN to serve the rest here")
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    is_right = hmac.compare_digest(
        given.strip().encode(errors="replace"), token.get_secret_value().encode()
    )
    if scheme.lower() != "bearer" or not is_right:
        told = "give it as Authorization: Bearer TOKEN; it is POLLER_LISTEN_TOKEN"
        raise Problem("unauthorized", told, headers=CHALLENGE)
