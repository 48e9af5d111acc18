"""The login and the logout."""

from aiohttp import web
from pydantic import Field, SecretStr

from poller.api.context import ApiContext
from poller.api.models import StrictModel
from poller.api.page.responses import redirect
from poller.api.page.session import cookie_name, cookie_value, is_equal
from poller.api.problems import Problem


class LoginForm(StrictModel):
    """The form of a login."""

    token: SecretStr = Field(max_length=4_096)


async def log_in(context: ApiContext, request: web.Request, form: LoginForm) -> web.Response:
    """Set the cookie if the token is right."""
    token, response = context.config.settings.listen_token, redirect("/")
    if token is not None:
        if not is_equal(form.token.get_secret_value(), token.get_secret_value()):
            raise Problem("unauthorized", "That is not the token.")
        response.set_cookie(
            cookie_name(request),
            cookie_value(context, token),
            httponly=True,
            samesite="Strict",
            secure=request.headers.get("Origin", "").startswith("https:"),
        )
    return response


async def log_out(_context: ApiContext, request: web.Request) -> web.Response:
    """Remove the cookie."""
    response = redirect("/")
    response.del_cookie(cookie_name(request))
    return response
