"""Where the texts of settings are found: secret files, the process environment, the env file.

A secret is looked for in files first (`X_FILE`, systemd's credentials, /run/secrets), then, like
anything else, in the process environment and at last in the file of `--env-file`. An empty text is
no text. Nothing here looks at `os.environ` by itself: the mapping is always given.
"""

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Final, Self

from dotenv.parser import Binding, parse_stream

from poller.core.errors import ConfigError

DEFAULT: Final = "default"
OUR_NAMES: Final = re.compile(r"(POLLER|SUTRO_API)_(?!PORT|SERVICE_)")
"""Names that must be known. Kubernetes injects the others for a Service called poller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcedValue:
    """The text of one setting and where it was; `problem` is the line to say if it has none."""

    text: str = field(default="", repr=False)
    origin: str = DEFAULT
    is_secret: bool = False
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvSources:
    """Where the texts of settings may be."""

    environ: Mapping[str, str] = field(repr=False)
    env_file: Path | None = None
    file_values: Mapping[str, str] = field(default_factory=dict, repr=False)
    run_secrets: Path = Path("/run/secrets")

    @classmethod
    def of(cls, environ: Mapping[str, str], env_file: Path | None) -> Self:
        """Read the env file, if there is one. Raises ConfigError when that fails."""
        if env_file is None:
            return cls(environ=environ)
        try:
            text = env_file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            problem = f"--env-file: cannot read {env_file}: {_reason(error)}"
        else:
            return cls(environ=environ, env_file=env_file, file_values=_assigned(text, env_file))
        raise ConfigError(problem)

    def names(self) -> set[str]:
        """Name every variable that is set, ours or not; an empty one is not."""
        return {*self.file_values, *(name for name, text in self.environ.items() if text.strip())}

    def find(self, variable: str, *, is_secret: bool = False) -> SourcedValue | None:
        """Find the strongest text of a variable."""
        filed = self._find_file(variable) if is_secret else None
        return filed or self._find_text(variable, is_secret=is_secret)

    def _find_text(self, variable: str, *, is_secret: bool = False) -> SourcedValue | None:
        for texts, origin in (
            (self.environ, "environment"),
            (self.file_values, f"env file {self.env_file}"),
        ):
            if text := texts.get(variable, "").strip():
                return SourcedValue(text=text, origin=origin, is_secret=is_secret)
        return None

    def _find_file(self, variable: str) -> SourcedValue | None:
        if twin := self._find_text(f"{variable}_FILE"):
            return _read_named_file(twin.text, f"{variable}_FILE")
        if folder := self.environ.get("CREDENTIALS_DIRECTORY"):
            path = Path(folder, variable)
            if _is_there(path):
                return _read_secret(path, variable, f"credential {variable}")
        path = self.run_secrets / variable
        return _read_secret(path, variable, f"file {path}") if _is_there(path) else None


def _assigned(text: str, path: Path) -> dict[str, str]:
    """Read the lines of an env file. Raises ConfigError with every line that assigns nothing."""
    lines = list(parse_stream(StringIO(text)))
    if bad := [_line(it) for it in lines if it.error or (it.key and it.value is None)]:
        raise ConfigError(*(f"--env-file: {path}, line {it}: must be NAME=value" for it in bad))
    return {it.key: it.value for it in lines if it.key and it.value}


def _line(it: Binding) -> int:
    """Give the number of a line; what is read of it begins with the empty ones before it."""
    before = it.original.string[: -len(it.original.string.lstrip()) or None]
    return it.original.line + before.count("\n")


def unknown_variables(places: EnvSources, known: Collection[str]) -> list[str]:
    """Complain about every variable that looks like ours and is none."""
    lines = []
    for name in sorted(places.names() - {*known}):
        if OUR_NAMES.match(name):
            close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.8)
            hint = f"; did you mean {close[0]}?" if close else ""
            lines.append(f"{name}: neither the daemon nor a sink in POLLER_SINKS reads it{hint}")
    return lines


def _is_there(path: Path) -> bool:
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
    return SourcedValue(origin="environment", is_secret=True, problem=problem)


def _read_secret(path: Path, variable: str, origin: str) -> SourcedValue:
    try:
        text = path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        problem = f"{variable}: cannot read {path}: {_reason(error)}"
    else:
        if text:
            return SourcedValue(text=text, origin=origin, is_secret=True)
        problem = f"{variable}: {path} is empty"
    return SourcedValue(origin=origin, is_secret=True, problem=problem)


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else "it is not UTF-8"
