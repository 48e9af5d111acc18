"""The sources of settings: secret files, the process environment and the env file.

A secret is read from a file first (`X_FILE`, a systemd credential, /run/secrets), then, like any
other setting, from the process environment, and last from the file of `--env-file`. An empty text
counts as not set. Nothing here reads `os.environ` by itself: the mapping is always given.
"""

import difflib
import re
from collections import ChainMap
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Final, Self

from dotenv.parser import Binding, parse_stream

from poller.core.errors import ConfigError

DEFAULT: Final = "default"
OWN_NAMES: Final = re.compile(r"(POLLER|SUTRO_API)_(?!PORT|SERVICE_)")
"""Names that must be known. Kubernetes injects the others for a Service called poller."""

NO_SUCH_NAME: Final = "no setting of the daemon or of a sink in POLLER_SINKS has this name"


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
            reason = _reason(error)
            raise ConfigError(f"--env-file: cannot read {env_file}: {reason}") from None
        return cls(environ=environ, env_file=env_file, file_values=_assigned(text, env_file))

    def layers(self, secrets: Collection[str] = ()) -> tuple[Layer, ...]:
        """Return the values of each source, the source that takes precedence first.

        Only the variables in `secrets` are read from secret files.
        """
        in_files = {name: found for name in secrets if (found := self._find_file(name))}
        in_environ = _layer(self.environ, "environment")
        return in_files, in_environ, _layer(self.file_values, f"env file {self.env_file}")

    def find(self, variable: str, *, is_secret: bool = False) -> SourcedValue | None:
        """Return the value of a variable from the first source that has one."""
        return ChainMap(*self.layers([variable] if is_secret else [])).get(variable)

    def _find_file(self, variable: str) -> SourcedValue | None:
        if named := self.find(f"{variable}_FILE"):
            return _read_named_file(named.text, f"{variable}_FILE")
        if folder := self.environ.get("CREDENTIALS_DIRECTORY"):
            path = Path(folder, variable)
            if _is_file(path):
                return _read_secret(path, variable, f"credential {variable}")
        path = self.run_secrets / variable
        return _read_secret(path, variable, f"file {path}") if _is_file(path) else None


def _layer(texts: Mapping[str, str], origin: str) -> Layer:
    stripped = {name: text.strip() for name, text in texts.items()}
    return {name: SourcedValue(text=text, origin=origin) for name, text in stripped.items() if text}


def _assigned(text: str, path: Path) -> dict[str, str]:
    """Parse an env file. Raises ConfigError with every line that is no assignment."""
    lines = list(parse_stream(StringIO(text)))
    bad = [line for line in lines if line.error or (line.key and line.value is None)]
    if bad:
        rule = "must be NAME=value"
        raise ConfigError(
            *(f"--env-file: {path}, line {_line_number(line)}: {rule}" for line in bad)
        )
    return {line.key: line.value for line in lines if line.key and line.value}


def _line_number(line: Binding) -> int:
    """Return the number of a line; the parser counts the empty lines before it as part of it."""
    text = line.original.string
    return line.original.line + text[: -len(text.lstrip()) or None].count("\n")


def unknown_variables(sources: EnvSources, known: Collection[str]) -> list[str]:
    """Return an error for every variable that has a name of ours and is not known."""
    lines = []
    names = {name for layer in sources.layers() for name in layer}
    for name in sorted(names - {*known}):
        if OWN_NAMES.match(name):
            close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.8)
            hint = f"did you mean {close[0]}?" if close else NO_SUCH_NAME
            lines.append(f"{name}: unknown variable; {hint}")
    return lines


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
    return SourcedValue(origin="environment", problem=problem)


def _read_secret(path: Path, variable: str, origin: str) -> SourcedValue:
    try:
        text = path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        problem = f"{variable}: cannot read {path}: {_reason(error)}"
    else:
        if text:
            return SourcedValue(text=text, origin=origin)
        problem = f"{variable}: {path} is empty"
    return SourcedValue(origin=origin, problem=problem)


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else "it is not UTF-8"
