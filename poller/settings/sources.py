"""The sources of settings: secret files, the process environment and the env file.

A secret is read from a file first (`X_FILE`, a systemd credential, /run/secrets), then, like any
other setting, from the process environment, and last from the file of `--env-file`. An empty text
counts as not set. Nothing here reads `os.environ` by itself: the mapping is always given.
"""

import re
from collections import ChainMap
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from poller.core.errors import ConfigError
from poller.runtime.files import read_regular
from poller.settings.env_file import EnvFile

DEFAULT: Final = "default"
ENVIRONMENT: Final = "environment"
MEMORY: Final = "memory:"
"""The value of POLLER_STORE for a store without a file."""
QUOTED: Final = re.compile(r"""(["']).*\1(\s+#.*)?|[\u201c\u201d].*[\u201c\u201d]""", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcedValue:
    """The text of one setting and its origin; `problem` is the error when it cannot be read."""

    text: str = field(default="", repr=False)
    origin: str = DEFAULT
    is_secret: bool = False
    problem: str | None = None


Layer = dict[str, SourcedValue]
"""The values of one source, by variable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvSources:
    """All sources of one process."""

    environ: Mapping[str, str] = field(repr=False)
    env_file: Path | None = None
    file: EnvFile = field(default_factory=EnvFile)
    run_secrets: Path = Path("/run/secrets")

    @classmethod
    def of(cls, environ: Mapping[str, str], env_file: Path | None) -> Self:
        """Read the env file, if there is one. Raises ConfigError when that fails."""
        if env_file is None:
            return cls(environ=environ)
        try:
            file = EnvFile.read(env_file)
        except (OSError, ValueError) as error:
            reason = _reason(error)
            raise ConfigError(f"--env-file: cannot read {env_file}: {reason}") from None
        return cls(environ=environ, env_file=env_file, file=file)

    def layers(self, secrets: Collection[str] = ()) -> tuple[Layer, ...]:
        """Return the values of each source, the source that takes precedence first.

        Only the variables in `secrets` are read from secret files.
        """
        in_files = {name: found for name in secrets if (found := self._find_file(name))}
        in_environ = _layer(self.environ, ENVIRONMENT)
        return in_files, in_environ, _layer(self.file.values, f"env file {self.env_file}")

    def find(self, variable: str, *, is_secret: bool = False) -> SourcedValue | None:
        """Return the value of a variable from the first source that has one."""
        return ChainMap(*self.layers([variable] if is_secret else [])).get(variable)

    def _find_file(self, variable: str) -> SourcedValue | None:
        if named := self.find(f"{variable}_FILE"):
            if named.problem:
                return named
            return _read_named_file(named.text, f"{variable}_FILE")
        if folder := self.environ.get("CREDENTIALS_DIRECTORY"):
            path = Path(folder, variable)
            if _is_file(path):
                return _read_secret(path, variable, f"credential {variable}")
        path = self.run_secrets / variable
        return _read_secret(path, variable, f"file {path}") if _is_file(path) else None


def default_store(environ: Mapping[str, str]) -> str:
    """Return the path of the database in the folder that systemd, XDG or the home directory has."""
    # systemd joins several folders when a unit asks for several.
    if folder := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return str(Path(folder, "state.db"))
    if state := environ.get("XDG_STATE_HOME"):
        return str(Path(state, "sutro-poller/state.db"))
    home = environ.get("HOME")
    return str(Path(home, ".local/state/sutro-poller/state.db")) if home else ""


def _layer(texts: Mapping[str, str], origin: str) -> Layer:
    stripped = {name: text.strip() for name, text in texts.items()}
    return {name: read_value(name, text, origin) for name, text in stripped.items() if text}


def read_value(
    variable: str, text: str, origin: str = ENVIRONMENT, *, is_secret: bool = False
) -> SourcedValue:
    """Return a value, or its problem if it is in quotes: no reader has removed them."""
    if not QUOTED.fullmatch(text):
        return SourcedValue(text=text, origin=origin, is_secret=is_secret)
    problem = (
        f"{variable}: begins and ends with a quote ({text[0]}), which is part of the value here:"
        " remove the quotes (docker --env-file keeps them)"
    )
    return SourcedValue(origin=origin, problem=problem)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:
        # A folder that is closed to this user holds nothing that is meant for it.
        return False


def _read_named_file(path: str, variable: str) -> SourcedValue:
    if path.startswith(("/", ".")):
        return _read_secret(Path(path), variable, f"file {path}")
    # It may be the secret itself, put into the wrong variable: do not repeat it.
    problem = f"{variable}: must be the path of a file, beginning with / or ./"
    return SourcedValue(origin=ENVIRONMENT, problem=problem)


def _read_secret(path: Path, variable: str, origin: str) -> SourcedValue:
    try:
        text = read_regular(path)[0].decode().removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        problem = f"{variable}: cannot read {path}: {_reason(error)}"
    else:
        if text:
            return read_value(variable, text, origin)
        problem = f"{variable}: {path} is empty"
    return SourcedValue(origin=origin, problem=problem)


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else "it is not UTF-8"
