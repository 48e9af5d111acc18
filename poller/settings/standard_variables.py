"""Variables of the process environment that other standards define: folders and proxies."""

from collections.abc import Mapping
from pathlib import Path


def state_folder(environ: Mapping[str, str]) -> Path | None:
    """Return the folder for state that systemd, XDG or the home directory provides."""
    # systemd joins several folders when a unit asks for several.
    if folder := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(folder)
    if state := environ.get("XDG_STATE_HOME"):
        return Path(state, "sutro-poller")
    home = environ.get("HOME")
    return Path(home, ".local/state/sutro-poller") if home else None


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the URLs of `https_proxy`, `no_proxy` and so on, by scheme.

    Lower case takes precedence, as with curl.
    """
    names = sorted(name for name in environ if name.lower().endswith("_proxy"))
    urls = {name.lower().removesuffix("_proxy"): environ[name] for name in names}
    return {scheme: url for scheme, url in urls.items() if url}
