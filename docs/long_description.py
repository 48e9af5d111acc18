"""A build hook: the README as the long description of the package, with absolute links."""

import re
from pathlib import Path
from typing import Any, Final

from hatchling.metadata.plugin.interface import MetadataHookInterface

REPOSITORY: Final = "https://github.com/sutro-poller/sutro-poller"
LINK: Final = re.compile(r"(!?)(\[[^\]]*\])\((?![a-z]+:|#)([^)]+)\)")


def absolute(markdown: str) -> str:
    """Return the text with links into the repository that work on any page."""
    return LINK.sub(_absolute_link, markdown)


def _absolute_link(link: re.Match[str]) -> str:
    image, label, path = link.groups()
    return f"{image}{label}({REPOSITORY}/{'raw' if image else 'blob'}/main/{path})"


class LongDescription(MetadataHookInterface):
    """Sets `readme` in the metadata of the package."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Read the README, from the repository or from a source distribution."""
        text = Path(self.root, "README.md").read_text("utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text)}
