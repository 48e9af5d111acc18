"""`files`: print a file that comes with the package, such as the systemd unit."""

import argparse
from pathlib import Path
from typing import Final

import poller
from poller.cli import CommandError, print_output
from poller.cli import exit_codes as codes

PATHS: Final = {
    "sutro-poller.service": "deploy/systemd/sutro-poller.service",
    "compose.yaml": "deploy/compose/compose.yaml",
    "rules.yml": "deploy/prometheus/rules.yml",
    "minimal.env": "config/minimal.env",
    "poller.env": "config/poller.env",
    "sidecar.env": "config/sidecar.env",
    "sutro-poller.1": "man/sutro-poller.1",
    "sutro-poller.bash": "completion/sutro-poller.bash",
    "sutro-poller.zsh": "completion/sutro-poller.zsh",
    "sutro-poller.fish": "completion/sutro-poller.fish",
}
"""Where each file is in the repository and below `poller/files` of a wheel.

The man page and the completions are made for the wheel.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `files`."""
    parser.add_argument(
        "name",
        nargs="?",
        choices=tuple(PATHS),
        metavar="NAME",
        help="the file to print (default: print the names)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the file, or the names of all files."""
    package = Path(poller.__file__).parent
    packaged = package / "files"
    folder = packaged if packaged.is_dir() else package.parent
    if arguments.name is None:
        print_output("\n".join(name for name, path in PATHS.items() if (folder / path).exists()))
        return
    try:
        print_output((folder / PATHS[arguments.name]).read_text("utf-8").rstrip("\n"))
    except OSError:
        reason = f"{arguments.name}: only an installed wheel has this file"
        raise CommandError(reason, code=codes.USAGE) from None
