"""Templates: jinja2 with autoescape, loaded from the package."""

from functools import cache
from typing import TYPE_CHECKING

from poller import __version__
from poller.api.page.assets import assets
from poller.core.events import RECORDED_TYPES

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: object) -> str:
    """Return a page. The first call takes a moment: call it in a thread."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - 5 MiB

    environment = Environment(
        loader=PackageLoader("poller.api.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.update(
        assets={name: f"/assets/{asset.name}" for name, asset in assets().items()},
        event_types=" ".join(sorted(RECORDED_TYPES)),
        version=__version__,
    )
    return environment
