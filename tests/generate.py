"""Write what is made from the settings: config/*.env and the table of the README."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from poller.config import read_sink
from poller.settings.base import Model, Reading
from poller.settings.daemon import PREFIX, Settings
from poller.settings.sources import Found, Places
from poller.sinks import find_kind

ROOT: Final = Path(__file__).parents[1]
BEGIN: Final = "<!-- settings -->\n"
END: Final = "<!-- /settings -->\n"

NOWHERE: Final = Places(environ={}, run_secrets=Path("/dev/null"))

HEADINGS: Final = {
    "SUTRO_API_KEY": "The API",
    "POLLER_JOB_IDS": "What to watch",
    "POLLER_MIN_INTERVAL": "Pace",
    "POLLER_SETTLE_TIMEOUT": "Meaning",
    "POLLER_SINKS": "Sinks",
    "POLLER_STORE": "State",
    "POLLER_LISTEN": "The door",
    "POLLER_LOG_LEVEL": "Log",
}
"""The groups of the settings, by the first variable of each."""

HEAD: Final = """\
# Every setting of sutro-poller with its default. Durations take 30, 30s, 500ms, 5m, 1h30m; lists
# take commas, white space or JSON. A secret can stand in a file instead: put _FILE after its name.
"""

KEY: Final = {"SUTRO_API_KEY": ""}
WEBHOOK: Final = {
    "POLLER_WEBHOOK_URL": "https://example.com/hooks/sutro",
    "POLLER_WEBHOOK_SECRET": "",
}
MINIMAL_TITLE: Final = "The least that tells a webhook of the end of a job."
MINIMAL: Final = KEY | {"POLLER_JOB_IDS": "job-12345"} | WEBHOOK
SIDECAR_TITLE: Final = "Beside an application that lists its jobs in a file."
SIDECAR: Final = (
    KEY
    | {"POLLER_JOBS_FILE": "/shared/jobs.txt", "POLLER_SINKS": "log,webhook"}
    | WEBHOOK
    | {"POLLER_STORE": "/state/state.db", "POLLER_LOG_FORMAT": "json"}
)


def template() -> str:
    """Write every variable with its default, commented out, under what it is."""
    lines = [HEAD]
    for variable, (found, description) in _all().items():
        if heading := HEADINGS.get(variable):
            lines.append(f"\n# --- {heading} ---\n")
        secret = f" (or {variable}_FILE)" if found.is_secret else ""
        mark = "" if variable in KEY else "#"
        value = KEY.get(variable, found.text)
        lines.append(f"# {description}{secret}\n{mark}{variable}={value}\n")
    return "".join(lines)


def example(title: str, values: Mapping[str, str]) -> str:
    """Write some variables with values, each under what it is."""
    known = _all()
    blocks = [f"# {known[name][1]}\n{name}={value}\n" for name, value in values.items()]
    return f"# {title}\n\n" + "".join(blocks)


def settings_table() -> str:
    """Write the Markdown table of all settings."""
    rows = ["| variable | default | what it is |\n", "|---|---|---|\n"]
    for variable, (found, description) in _all().items():
        default = f"`{found.text}`" if found.text else ""
        name = f"`{variable}`" + (" (`_FILE`)" if found.is_secret else "")
        rows.append(f"| {name} | {default} | {description} |\n")
    return "".join(rows)


def generated() -> dict[str, str]:
    """Give the content of every generated file by its path."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return {
        "config/poller.env": template(),
        "config/minimal.env": example(MINIMAL_TITLE, MINIMAL),
        "config/sidecar.env": example(SIDECAR_TITLE, SIDECAR),
        "README.md": before + BEGIN + settings_table() + END + after if rest else readme,
    }


def _all() -> dict[str, tuple[Found, str]]:
    """Give every variable, those of the sinks behind POLLER_SINKS."""
    known: dict[str, tuple[Found, str]] = {}
    for variable, row in _rows(Reading.of(Settings, PREFIX, NOWHERE)):
        known[variable] = row
        if variable == "POLLER_SINKS":
            for sink in ("log", "webhook"):
                known |= _rows(read_sink(sink, find_kind(sink), NOWHERE))
    return known


def _rows(reading: Reading[Model]) -> Iterator[tuple[str, tuple[Found, str]]]:
    described = [it.description or "" for it in reading.model.model_fields.values()]
    found = reading.by_variable().items()
    for (variable, it), description in zip(found, described, strict=True):
        yield variable, (it, description)


if __name__ == "__main__":
    for path, text in generated().items():
        (ROOT / path).write_text(text, encoding="utf-8")
