"""Write config/*.env, the OpenAPI document, the types of events, and parts of docs/."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from poller.config import Config, load
from poller.settings.base import EnvSettings, default_text, env_prefix, variables
from poller.settings.daemon import PREFIX, Settings
from poller.settings.sources import SourcedValue
from poller.sinks import BUILT_IN
from tests.docs import event_types, reference
from tests.docs.openapi import Document

ROOT: Final = Path(__file__).parents[1]
PART: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?\n?(<!-- /generated -->\n)", re.DOTALL)
"""A generated part of a page, with its name."""

EXAMPLE: Final = {
    "SUTRO_API_KEY": "sk_example",
    "POLLER_JOB_IDS": "job-1",
    "POLLER_SINKS": ",".join(BUILT_IN),
    "POLLER_WEBHOOK_URL": "https://example.com",
    "POLLER_SLACK_URL": "https://example.com",
    "POLLER_TEAMS_URL": "https://example.com",
    "POLLER_DISCORD_URL": "https://example.com",
    "POLLER_GOOGLECHAT_URL": "https://example.com",
    "POLLER_EMAIL_URL": "smtps://example.com",
    "POLLER_EMAIL_TO": "you@example.com",
    "POLLER_EMAIL_FROM": "poller@example.com",
    "POLLER_APPRISE_URL": "json://example.com",
    "POLLER_PAGERDUTY_ROUTING_KEY": "0" * 32,
    "POLLER_ALERTMANAGER_URL": "https://example.com",
    "POLLER_EXEC_COMMAND": "sh",
    "POLLER_FILE_PATH": "events.jsonl",
    "POLLER_STORE": "memory:",
}
"""An environment in which every setting has a value, by default or not."""

FILTERS: Final = ("JOB_NAME", "MODEL", "MIN_COST", "MIN_DURATION")
SHOWN_KIND: Final = "webhook"
"""The settings that every kind has are shown for this one alone."""

HEADINGS: Final = {
    "SUTRO_API_KEY": "The API",
    "POLLER_JOB_IDS": "What to watch",
    "POLLER_MIN_INTERVAL": "Polling interval",
    "POLLER_SETTLE_TIMEOUT": "Job states and event IDs",
    "POLLER_SINKS": "Sinks",
    "POLLER_STORE": "Database",
    "POLLER_LISTEN": "HTTP API",
    "POLLER_HEARTBEAT_URL": "Heartbeat",
    "POLLER_LOG_LEVEL": "Log",
}
"""The groups of the settings, by the first variable of each."""

HEAD: Final = """\
# Every setting of sutro-poller with its default. Durations are 30, 30s, 500ms, 5m, 1h30m; lists
# use commas, white space or JSON. A secret can be in a file instead: add _FILE to its name.
"""

KEY: Final = {"SUTRO_API_KEY": ""}
API: Final = KEY | {"#SUTRO_API_URL": "https://api.sutro.sh"}
WEBHOOK: Final = {
    "POLLER_SINKS": "log,webhook",
    "POLLER_WEBHOOK_URL": "",
    "POLLER_WEBHOOK_SECRET": "",
}
"""A file without a URL does not start, which no placeholder would prevent."""

FILL_IN: Final = "Fill in the empty lines."
MINIMAL_TITLE: Final = f"The smallest configuration that reports to a webhook. {FILL_IN}"
MINIMAL: Final = API | {"POLLER_JOB_IDS": ""} | WEBHOOK
SIDECAR_TITLE: Final = f"For a sidecar of an app that writes its job IDs to a file. {FILL_IN}"
SIDECAR: Final = (
    API
    | {"POLLER_JOBS_FILE": "/shared/jobs.txt"}
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
    """Write some variables with values, each under what it is; # leaves one out."""
    known = _all()
    blocks = [
        f"# {known[name.removeprefix('#')][1]}\n{name}={value}\n" for name, value in values.items()
    ]
    return f"# {title}\n\n" + "".join(blocks)


def grouped() -> dict[str, dict[str, tuple[SourcedValue, str]]]:
    """Return every variable with its default and description, by group."""
    groups: dict[str, dict[str, tuple[SourcedValue, str]]] = {}
    heading = ""
    for variable, row in _all().items():
        heading = HEADINGS.get(variable, heading)
        groups.setdefault(heading, {})[variable] = row
    return groups


def filled(page: str, parts: Mapping[str, str]) -> str:
    """Return the text of a page with each of its generated parts as it should be."""
    return PART.sub(lambda part: f"{part[1]}{parts[part[2]]}\n{part[3]}", page)


def generated() -> dict[str, str]:
    """Return the content of every file that is generated, or has generated parts, by its path."""
    parts = {
        "settings": reference.settings(grouped()),
        "commands": reference.commands(),
        "problems": reference.problems(),
        "issues": reference.issues(),
        "metrics": reference.metrics(),
    }
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("docs/*.md"))}
    return {
        "config/poller.env": template(),
        "config/minimal.env": example(MINIMAL_TITLE, MINIMAL),
        "config/sidecar.env": example(SIDECAR_TITLE, SIDECAR),
        "docs/events.d.ts": event_types.typescript(),
        "poller/api/openapi.json": Document().text(),
        "poller/receive/events.py": event_types.python(),
    } | {
        path.relative_to(ROOT).as_posix(): filled(page, parts)
        for path, page in pages.items()
        if PART.search(page)
    }


def _all() -> dict[str, tuple[SourcedValue, str]]:
    """Return every variable with its default and description, sinks after POLLER_SINKS."""
    config = load(EXAMPLE)
    rows: dict[str, tuple[SourcedValue, str]] = {}
    for variable, row in _rows(config, Settings, PREFIX):
        rows[variable] = row
        if variable == "POLLER_SINKS":
            for sink in config.sinks:
                named = dict(_rows(config, sink.kind.settings, env_prefix(sink.name)))
                shared = FILTERS if sink.name != SHOWN_KIND else ()
                rows |= {
                    variable: row
                    for variable, row in named.items()
                    if variable.removeprefix(env_prefix(sink.name)) not in shared
                }
    return rows


def _rows(
    config: Config, model: type[EnvSettings], prefix: str
) -> Iterator[tuple[str, tuple[SourcedValue, str]]]:
    for name, variable in variables(model, prefix).items():
        info, value = model.model_fields[name], config.sourced[variable]
        if not config.is_default(variable):
            value = replace(value, text=default_text(info))
        yield variable, (value, info.description or "")


if __name__ == "__main__":
    for path, text in generated().items():
        (ROOT / path).write_text(text, encoding="utf-8")
