"""The folder for state that the process environment names."""

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
