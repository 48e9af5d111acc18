"""Elements of HTML and SVG from Python, with all text escaped."""

from html import escape


class Markup(str):
    """Text that is markup already; templates insert it as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        """Return the markup, as templates ask for it."""
        return self


def element(name: str, *children: str, **attributes: object) -> Markup:
    """Return an element; `class_` and `text_anchor` are the attributes class and text-anchor."""
    inner = "".join(child if isinstance(child, Markup) else escape(child) for child in children)
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{given}>{inner}</{name}>")
