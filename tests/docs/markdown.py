"""Read Markdown: code blocks, links, and the anchors that links may point to."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = tuple(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
)

FENCE: Final = re.compile(r"^(?P<indent> *)```(?P<info>.*)$")
TITLE: Final = re.compile(r'title="([^"]+)"')
HEADING: Final = re.compile(r"^#+ +(.*?) *#*$")
ANCHOR: Final = re.compile(r'<a id="([^"]+)">')
LINK: Final = re.compile(r"\]\(([^()\s]+(?:\([^()\s]*\))?[^()\s]*)\)")
CODE_SPAN: Final = re.compile(r"(`+).*?\1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced code block. `line` is that of its first line of text, from 1."""

    page: str
    line: int
    language: str
    title: str | None
    text: str

    @property
    def place(self) -> str:
        """The page and line, as editors open them."""
        return f"{self.page}:{self.line}"


def read(page: str) -> str:
    """Return the text of a page, named by its path in the repository."""
    return (ROOT / page).read_text("utf-8")


def blocks(page: str, text: str | None = None) -> Iterator[Block]:
    """Yield the code blocks of a page."""
    lines = (read(page) if text is None else text).split("\n")
    start, info, indent = None, "", ""
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if not fence:
            continue
        if start is None:
            start, info, indent = number + 1, fence["info"], fence["indent"]
        elif fence["indent"] == indent and not fence["info"]:
            title = TITLE.search(info)
            yield Block(
                page=page,
                line=start + 1,
                language=info.split(" ")[0],
                title=title[1] if title else None,
                text=dedent("".join(f"{body}\n" for body in lines[start:number])),
            )
            start = None


def prose(page: str) -> Iterator[tuple[int, str]]:
    """Yield the lines outside of code blocks, with their numbers from 1."""
    is_code = False
    for number, line in enumerate(read(page).split("\n"), 1):
        if FENCE.match(line):
            is_code = not is_code
        elif not is_code:
            yield number, line


def links(page: str) -> Iterator[tuple[int, str]]:
    """Yield the targets of the links of a page, with the numbers of their lines."""
    for number, line in prose(page):
        for target in LINK.findall(CODE_SPAN.sub("", line)):
            yield number, target


def anchors(page: str) -> set[str]:
    """Return what a link to this page may name after `#`, as GitHub derives it."""
    found: dict[str, int] = {}
    for _, line in prose(page):
        for name in ANCHOR.findall(line):
            found[name] = 1
        if heading := HEADING.match(line):
            slug = _slug(heading[1])
            found[slug] = found.get(slug, 0) + 1
    again = {f"{slug}-{number}" for slug, times in found.items() for number in range(1, times)}
    return {*found, *again}


def _slug(heading: str) -> str:
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
    text = re.sub(r"[^\w\- ]", "", text.replace("`", "").lower())
    return text.replace(" ", "-")
