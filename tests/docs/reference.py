"""Write the parts of docs/ that follow from the code: settings, commands, problems, metrics."""

import argparse
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from prometheus_client import Metric

from poller.api.metrics import DaemonCollector
from poller.api.problems import PROBLEM_TYPES
from poller.cli import VERBS, build_parser
from poller.core.counters import Counters
from poller.core.issues import REMEDIES
from poller.runtime.clock import Clock
from poller.settings.sources import SourcedValue
from poller.status import DaemonStatus
from poller.sutro.rate_limit import RateLimiter

NOTES: Final = tomllib.loads(Path(__file__).with_name("notes.toml").read_text("utf-8"))
"""What the code has no room for, by the name of a setting or a problem."""

SUFFIXES: Final = {"counter": "_total", "info": "_info"}
PRINTING: Final = "Those that print rows take `-o, --output {table,json}`."
COMMON: Final = frozenset({"help", "env_file"})
"""The options that every command has, or nearly every one; the page names them once."""


def settings(groups: Mapping[str, Mapping[str, tuple[SourcedValue, str]]]) -> str:
    """Return a section for each group of settings, and a paragraph for each of them."""
    lines = []
    for heading, rows in groups.items():
        lines.append(f"## {heading}\n\n")
        for variable, (default, description) in rows.items():
            lines.append(f"### `{variable}`\n\n{_sentences(variable, default, description)}\n\n")
    return "".join(lines).rstrip("\n")


def _sentences(variable: str, default: SourcedValue, description: str) -> str:
    parts = [f"{_cell(description)}."]
    if default.text:
        parts.append(f"Default: `{default.text}`.")
    if default.is_secret:
        parts.append(f"A secret: `{variable}_FILE` names a file that contains it.")
    parts.append(NOTES["settings"].get(variable, "").strip())
    return " ".join(filter(None, parts))


def problems() -> str:
    """Return the table of the problem types, with an anchor for each."""
    rows = (
        (f'<a id="problem-{name}"></a>`{name}`', str(kind.status), _problem(name, kind.title))
        for name, kind in PROBLEM_TYPES.items()
    )
    return _table(("type", "status", "meaning"), rows)


def _problem(name: str, title: str) -> str:
    return "; ".join(filter(None, (title, NOTES["problems"].get(name))))


def issues() -> str:
    """Return the table of the issues that the daemon reports."""
    rows = ((f"`{issue}`", _cell(remedy)) for issue, remedy in REMEDIES.items())
    return _table(("issue", "meaning, and what to do"), rows)


def metrics() -> str:
    """Return the table of the metrics, in the order in which they are served."""
    rows = (
        (f"`{_name(metric)}`", metric.type, _labels(metric), _cell(metric.documentation))
        for metric in _metrics()
    )
    return _table(("metric", "type", "labels", "meaning"), rows)


def _metrics() -> Iterable[Metric]:
    now = Clock().steady
    daemon_status = DaemonStatus(RateLimiter(per_minute=60.0, now=now, random=lambda: 0.5), now)
    daemon_status.rate_limiter.reachability.record(None)  # its metric appears with a response
    return DaemonCollector(Counters(), daemon_status, sinks=()).collect()


def _name(metric: Metric) -> str:
    return metric.name + SUFFIXES.get(metric.type, "")


def _labels(metric: Metric) -> str:
    names = [*getattr(metric, "_labelnames", ())]
    if metric.type == "info":
        names = [*metric.samples[0].labels]
    return ", ".join(f"`{name}`" for name in names)


def commands() -> str:
    """Return a table of arguments for each command that has some."""
    env_file = _env_file()
    common = f"{_named(env_file)}: {env_file.help}"
    lines = [f"Commands that read settings take {common}. {PRINTING}\n"]
    for name in VERBS:
        for command, parser in _commands(name):
            rows = [(_named(it), _cell(_help(it))) for it in _arguments(parser)]
            if rows:
                lines.append(
                    f"\n### Options of {command}\n\n{_table(('argument', 'meaning'), rows)}\n"
                )
    return "".join(lines).rstrip("\n")


def _commands(name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    verb = _children(build_parser(name))[name]
    yield name, verb
    for act, parser in _children(verb).items():
        yield f"{name} {act}", parser


def _children(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        is_common = action.dest in COMMON or action.choices == ("table", "json")
        if not is_common and not isinstance(action, argparse._SubParsersAction):
            yield action


def _env_file() -> argparse.Action:
    ((_, parser),) = _commands("run")
    return next(it for it in parser._actions if it.dest == "env_file")


def _named(action: argparse.Action) -> str:
    value = ""
    if action.nargs != 0:
        value = action.metavar or _choices(action)
    if action.option_strings:
        return f"`{', '.join(action.option_strings)}{f' {value}' if value else ''}`"
    return f"`{value}{' ...' if action.nargs in {'*', '+'} else ''}`"


def _choices(action: argparse.Action) -> str:
    return f"{{{','.join(action.choices)}}}" if action.choices else action.dest.upper()


def _help(action: argparse.Action) -> str:
    is_output = action.dest == "output"
    return action.help or (f"form of the output (default: {action.default})" if is_output else "")


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """Return a text for a table, without its last stop, and with `|` and names as Markdown."""
    return text.rstrip(".").replace("|", "\\|")
