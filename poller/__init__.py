"""Watch Sutro batch-inference jobs: the package of `sutro-poller`, and an API for asyncio programs.

    results = await poller.wait(["job-1", "job-2"])

    async with poller.watch(["job-1"]) as events:
        async for event in events:
            print(event.type, event.data["job"]["job_id"])

Both read the same environment variables as the daemon, such as SUTRO_API_KEY.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from poller.core.errors import ConfigError, PollError, Unauthorized, WrongEndpoint
    from poller.core.events import Event
    from poller.core.jobs import Job
    from poller.library import wait, watch
    from poller.polling.waiter import JobResult

    __version__: str

__all__ = [
    "ConfigError",
    "Event",
    "Job",
    "JobResult",
    "PollError",
    "Unauthorized",
    "WrongEndpoint",
    "__version__",
    "wait",
    "watch",
]

_MODULES: Final = {
    "ConfigError": "poller.core.errors",
    "Event": "poller.core.events",
    "Job": "poller.core.jobs",
    "JobResult": "poller.polling.waiter",
    "PollError": "poller.core.errors",
    "Unauthorized": "poller.core.errors",
    "WrongEndpoint": "poller.core.errors",
    "wait": "poller.library",
    "watch": "poller.library",
}


def __getattr__(name: str) -> Any:
    """Return a public name, whose module is imported at its first use."""
    if name == "__version__":
        return _version()
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def _version() -> str:
    """Return the version of the installed package; the import of its reader takes a while."""
    metadata = import_module("importlib.metadata")
    try:
        return str(metadata.version("sutro-poller"))
    except metadata.PackageNotFoundError:  # a copy of the source, such as in a zip file
        return "0+unknown"
