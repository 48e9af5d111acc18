"""Lines of an env file that other programs read differently."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.errors import ConfigError
from poller.settings.env_file import EnvFile
from tests.support.config_builders import write_file

PLAIN = "POLLER_DISCOVER_NAME=nightly *"

TEXTS = st.text("ab #\"'\\=$ é", max_size=8)
LINES = st.builds(
    "{}{}{}={}{}".format,
    st.sampled_from(["", "export ", "  "]),
    st.sampled_from(["A", "POLLER_STORE"]),
    st.sampled_from(["", " "]),
    st.sampled_from(["", " "]),
    st.one_of(
        TEXTS, TEXTS.map('"{}"'.format), TEXTS.map("'{}'".format), TEXTS.map("x # {}".format)
    ),
)


def docker_reads(line: str) -> tuple[str, str]:
    """Return the name and the value of a line for `docker --env-file`. Raises ValueError."""
    name, _, value = line.lstrip().partition("=")
    if any(map(str.isspace, name)):
        raise ValueError
    return name, value.strip()  # as every setting is stripped


def warned(folder: Path, text: str) -> list[str]:
    """Return the warnings about a file, without its path."""
    path = write_file(folder / "env", text)
    return [
        line.removeprefix(f"--env-file: {path}, ") for line in EnvFile.read(Path(path)).warnings
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('POLLER_DISCOVER_NAME="nightly *"', "docker keeps the quotes"),
        ("SUTRO_API_KEY='sk_x' # ours", "docker keeps the quotes"),
        ("POLLER_MAX_INTERVAL=5m   # five minutes", "docker and systemd read the comment"),
        ("POLLER_PROXY= # none", "docker and systemd read the comment"),
        ("export POLLER_CONCURRENCY=3", "docker rejects `export`, and systemd ignores"),
        ("POLLER_CONCURRENCY =3", "docker rejects the space before `=`"),
    ],
)
def test_env_file_warns_of_lines_that_are_not_portable(tmp_path: Path, line: str, words: str):
    """A line that Docker or systemd reads differently is named, with what to do."""
    (warning,) = warned(tmp_path, f"# ours\n{PLAIN}\n\n{line}\n{PLAIN}\n")

    assert warning.startswith(f"line 4: {words}")
    assert "sk_x" not in warning


def test_env_file_that_is_portable_has_no_warnings(tmp_path: Path):
    """Neither comments on lines of their own nor spaces, numbers or JSON are warned of."""
    text = f'# "ours"\n\n{PLAIN}\nPOLLER_PROXY=\nX={{"A": "b"}}\nX=a#b\nX=\\x $y\n'

    assert warned(tmp_path, text) == []


@given(lines=st.lists(LINES, min_size=1, max_size=3))
def test_env_file_without_warnings_is_read_as_docker_reads_it(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
):
    """Whatever is in a file, without a warning Docker and the daemon read the same values."""
    path = Path(write_file(tmp_path_factory.getbasetemp() / "random.env", "\n".join(lines)))
    try:
        file = EnvFile.read(path)
    except ConfigError:
        return

    if not file.warnings:
        assert file.values == {name: value for name, value in map(docker_reads, lines) if value}
