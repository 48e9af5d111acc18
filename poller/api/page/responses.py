"""The responses of pages: HTML that may load nothing but the files of this daemon."""

from typing import Final

from aiohttp import web

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    # With no-referrer, a browser would send the forms with the Origin "null".
    "Referrer-Policy": "same-origin",
}


def html(text: str, status: int = 200) -> web.Response:
    """Return a page."""
    return web.Response(text=text, status=status, content_type="text/html", headers=HEADERS)


def redirect(path: str) -> web.Response:
    """Return a response after which the browser gets another page."""
    return web.Response(status=303, headers=HEADERS | {"Location": path})
