"""Authentication and origin checks.

Public paths need neither. For the rest, the danger on loopback is a web page in a local browser:
it can send requests here, to this address or to a name that it has resolve to it.
"""

import hmac
import re
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from poller.api.context import ApiContext
from poller.api.endpoint import CONTEXT, PUBLIC_PATHS
from poller.api.page import accepts_session, is_page, needs_no_token
from poller.api.page.session import has_session
from poller.api.problems import Problem
from poller.runtime.address import LOCALHOST, is_ip

CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="sutro-poller"'}
JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
OWN_SITES: Final = frozenset({"none", "same-origin"})
"""Values of Sec-Fetch-Site, which browsers send, for addresses typed in and for own pages."""
HOST: Final = re.compile(r"(?P<host>[a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.IGNORECASE)


@web.middleware
async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Handle the request if it is allowed. Raises Problem."""
    if request.path not in PUBLIC_PATHS:
        context = request.app[CONTEXT]
        _check_host(request, context)
        _check_origin(request)
        _check_token(request, context)
        content_type = FORM if is_page(request) else JSON
        if request.body_exists and request.content_type != content_type:
            raise Problem("unsupported-media-type", f"send Content-Type: {content_type}")
    return await handler(request)


def _check_host(request: web.Request, context: ApiContext) -> None:
    """Reject host names that are not ours: anyone can make a name resolve to this address.

    IP addresses and unix sockets cannot be spoofed in this way.
    """
    match = HOST.fullmatch(request.host)
    host = match["host"].lower().strip("[]") if match else ""
    known = {LOCALHOST, context.address.host, *context.config.settings.allowed_hosts}
    if context.address.path is None and not is_ip(host) and host not in known:
        raise Problem("unknown-host", "use the IP address, or add the name to POLLER_ALLOWED_HOSTS")


def _check_origin(request: web.Request) -> None:
    # Also for reads: a page cannot read the response, but can take up connections and streams.
    if request.headers.get("Sec-Fetch-Site", "none") not in OWN_SITES:
        raise Problem("cross-origin", "the Sec-Fetch-Site header shows a page of another site")
    origin, host = request.headers.get("Origin"), request.host.lower()
    # A proxy in front may speak TLS.
    if origin is not None and origin.lower() not in {f"http://{host}", f"https://{host}"}:
        raise Problem("cross-origin", "the Origin header does not match the Host header")
    # Any page can send a form, and a browser says which: one of them is there.
    is_anonymous = origin is None and "Sec-Fetch-Site" not in request.headers
    if is_anonymous and request.method == "POST" and is_page(request):
        raise Problem("cross-origin", "a form needs an Origin or a Sec-Fetch-Site header")


def _check_token(request: web.Request, context: ApiContext) -> None:
    token = context.config.settings.listen_token
    if token is None:
        if not context.address.is_local:
            detail = "set POLLER_LISTEN_TOKEN to serve more than probes, metrics and the version"
            raise Problem("forbidden", detail)
        return
    if needs_no_token(request):
        return
    if accepts_session(request) and has_session(request, context, token):
        return
    scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
    is_right = hmac.compare_digest(
        sent.strip().encode(errors="replace"), token.get_secret_value().encode()
    )
    if scheme.lower() != "bearer" or not is_right:
        detail = "send Authorization: Bearer TOKEN with the value of POLLER_LISTEN_TOKEN"
        raise Problem("unauthorized", detail, headers=CHALLENGE)
