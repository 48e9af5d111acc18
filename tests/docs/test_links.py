"""Links in Markdown lead somewhere."""

import re
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Final

import pytest
import yaml

from tests.docs.markdown import PAGES, ROOT, anchors, links, read

REPOSITORY: Final = "https://github.com/sutro-poller/sutro-poller/blob/main/"
"""How pages of docs/ name other files: the site has only the pages."""

LINKING: Final = (
    *PAGES,
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *(path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("deploy/*/README.md"))),
)


@pytest.mark.parametrize("page", LINKING)
def test_links_lead_somewhere(page):
    """Each link to a file of the repository names one that is there, and an anchor that it has."""
    dead = [f"{page}:{line}: {target}" for line, target in links(page) if not _leads(page, target)]

    assert not dead


def test_pages_of_the_site_stay_on_it():
    """A page of docs/ links relatively to its neighbours, and to other files by their URL."""
    outside = [
        f"{page}:{line}: {target}"
        for page in PAGES
        if page.startswith("docs/")
        for line, target in links(page)
        if target.startswith("../")
    ]

    assert not outside


def test_the_site_lists_every_page():
    """The navigation of the site has each page of docs/, once."""
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    pages = [page for section in navigation for page in _pages(*section.values())]

    assert sorted(pages) == sorted(it.removeprefix("docs/") for it in PAGES if "/" in it)


@pytest.mark.parametrize("page", LINKING)
def test_paths_lead_somewhere(page):
    """Each path of the code or the tests that a page names is there."""
    paths = re.findall(r"`((?:poller|tests|docs|config|deploy)/[\w*./-]+)`", read(page))
    dead = [path for path in paths if not [*ROOT.glob(path.rstrip("/"))]]

    assert not dead


def _pages(section: str | list[dict[str, str]]) -> list[str]:
    if isinstance(section, str):
        return [section]
    return [page for entry in section for page in entry.values()]


def _leads(page: str, target: str) -> bool:
    path, _, anchor = target.partition("#")
    if path.startswith(REPOSITORY):
        path = path.removeprefix(REPOSITORY)
    elif ":" in path:
        return True
    else:
        path = normpath(PurePosixPath(page).parent / path) if path else page
    if not (ROOT / path).exists():
        return False
    return not anchor or (path.endswith(".md") and anchor in anchors(path))
