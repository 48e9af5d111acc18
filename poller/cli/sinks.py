"""`sinks`: list, test and enable sinks, and explain what they get."""

import argparse
from typing import Final

from poller.cli import print_error
from poller.cli.arguments import add_actions, add_output_arguments, load_settings, open_store
from poller.cli.output import REPLAY_COLUMNS, REPLAYED, print_all, print_rows, when_sent
from poller.core.events import RECORDED_TYPES, DaemonEventType
from poller.core.formatting import format_count

COLUMNS: Final = ("sink", "state", "pending", "oldest_at", "dead", "reason")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `sinks`."""
    ls, *others = add_actions(
        parser,
        ("ls", _list, "list sinks and their backlogs"),
        ("test", _test, "send a test event and report the result"),
        ("enable", _enable, "enable a sink that a 410 response disabled; its events are sent"),
        ("explain", _explain, "show which sinks get which events of a job, and why not"),
    )
    *others, explaining = others
    explaining.add_argument("job_id", metavar="JOB_ID", help="a unique prefix is enough")
    for action in (ls, explaining):
        add_output_arguments(action)
    others[0].add_argument(
        "--type",
        choices=sorted(RECORDED_TYPES),
        default=DaemonEventType.TEST.value,
        metavar="TYPE",
        help="send a sample of this event type, marked with data.test (default: poller.test)",
    )
    for action in others:
        action.add_argument("sink", metavar="NAME", help="such as webhook or webhook.audit")
        add_output_arguments(action)


def _list(arguments: argparse.Namespace) -> None:
    rows = open_store(load_settings(arguments)).sinks()
    print_rows(
        rows, COLUMNS, arguments.output, empty="No sinks recorded: start `sutro-poller run` first."
    )


def _enable(arguments: argparse.Namespace) -> None:
    admin = open_store(load_settings(arguments))
    rows = admin.enable_sink(arguments.sink)
    results = (row | {"result": REPLAYED} for row in rows or ())
    empty = "No events were waiting for it." if rows is not None else "No change."
    count = print_all(results, REPLAY_COLUMNS, arguments.output, empty=empty)
    if rows is None:
        print_error(f"{arguments.sink} was not disabled")
    else:
        print_error(
            f"{arguments.sink} is enabled;"
            f" {format_count(count, 'event')} will be sent{when_sent(admin)}"
        )


def _explain(arguments: argparse.Namespace) -> None:
    from poller.cli.sink_explain import explain_job  # noqa: PLC0415 - heavy, and seldom used

    explain_job(arguments)


def _test(arguments: argparse.Namespace) -> int:
    from poller.cli.sink_test import send_test_event  # noqa: PLC0415 - heavy, and seldom used

    return send_test_event(arguments)
