"""A build hook: files for people who have only the package, beside the code of the package.

The man page and the shell completions are made here, of the command line itself. All others are
copies of files in deploy/ and config/.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.utils import get_reproducible_timestamp

PROG: Final = "sutro-poller"
GENERATED: Final = {
    "sutro-poller.1": "share/man/man1/sutro-poller.1",
    "sutro-poller.bash": "share/bash-completion/completions/sutro-poller",
    "sutro-poller.zsh": "share/zsh/site-functions/_sutro-poller",
    "sutro-poller.fish": "share/fish/vendor_completions.d/sutro-poller.fish",
}
"""What is made here, and where programs look for it below the prefix of an installation."""


class PackageData(BuildHookInterface):
    """Adds the files of `sutro-poller files` to a wheel; an editable install has none."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the files, and name the place of each in the wheel."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from poller.cli import VERBS, build_parser  # noqa: PLC0415 - only a wheel needs its parser
        from poller.cli.files import PATHS  # noqa: PLC0415 - same

        self._folder = TemporaryDirectory()
        os.environ |= {"COLUMNS": "100", "NO_COLOR": "1"}  # for the usage lines of argparse
        about = {"version": self.metadata.version, "description": self.metadata.core.description}
        texts = _generated(build_parser(*VERBS), about)
        for name, path in PATHS.items():
            source = Path(self.root, path)
            if name in texts:
                source = Path(self._folder.name, name)
                source.write_text(texts[name], "utf-8")
                build_data["shared_data"][str(source)] = GENERATED[name]
            build_data["force_include"][str(source)] = f"poller/files/{path}"

    def finalize(self, version: str, _build_data: dict[str, Any], _artifact_path: str) -> None:
        """Remove what was made."""
        if version != "editable":
            self._folder.cleanup()


def _generated(parser: argparse.ArgumentParser, about: Mapping[str, str]) -> dict[str, str]:
    import shtab  # noqa: PLC0415 - only a wheel needs it

    for action in _actions(parser):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    texts = {f"{PROG}.{shell}": shtab.complete(parser, shell) for shell in ("bash", "zsh", "fish")}
    return texts | {f"{PROG}.1": "\n".join(_man_page(parser, about)) + "\n"}


def _man_page(parser: argparse.ArgumentParser, about: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of a page with the help of each command.

    The libraries for this come without a wheel, which an image that is built of hashes needs.
    """
    made = datetime.fromtimestamp(get_reproducible_timestamp(), UTC)
    yield f'.TH {PROG.upper()} 1 "{made:%Y-%m-%d}" "{PROG} {about["version"]}"'
    yield from (".SH NAME", rf"{PROG} \- {_roff(about['description'])}")
    yield from (".SH SYNOPSIS", *_shown_as_is(parser.format_help()))
    for action in _actions(parser):
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - no other way to them
            for child in dict.fromkeys(action.choices.values()):
                yield from (f".SH {child.prog.upper()}", *_shown_as_is(child.format_help()))


def _shown_as_is(text: str) -> Iterator[str]:
    yield ".nf"
    for line in text.strip().splitlines():
        yield r"\&" + _roff(line) if line else ""
    yield ".fi"


def _roff(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-")


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to them
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - same
            for child in action.choices.values():
                yield from _actions(child)
