"""`check`: warnings about a valid configuration."""

import os
import sqlite3
import sys
from io import StringIO
from pathlib import Path

import pytest

from tests.cli.conftest import RunCli
from tests.settings.test_ca_extensions import write_ca
from tests.support.config_builders import GOOD, SECRET

SLACK = "https://hooks.slack.com/services/T0/B0/c4n4ry"


@pytest.mark.parametrize(
    ("variables", "warning"),
    [
        ({"POLLER_WEBHOOK_URL": "https://h.example"}, "POLLER_WEBHOOK_SECRET: is not set, so"),
        (
            {"POLLER_WEBHOOK_URL": SLACK, "POLLER_WEBHOOK_SECRET": SECRET},
            "POLLER_WEBHOOK_URL: is of Slack, which rejects events: use POLLER_SLACK_URL",
        ),
        (
            {
                "POLLER_SINKS": "log,webhook.audit",
                "POLLER_WEBHOOK_AUDIT_URL": "http://h.example",
                "POLLER_ALLOW_HTTP": "on",
            },
            "POLLER_WEBHOOK_AUDIT_SECRET: is not set, so",
        ),
        ({"POLLER_DISCOVER_NAME": "nightly *  # ours"}, "POLLER_DISCOVER_NAME: the comment is"),
        ({"SSL_CERT_FILE": "/nowhere/ca.pem"}, "SSL_CERT_FILE: /nowhere/ca.pem cannot be"),
        (
            {"POLLER_LOG_EVENTS": "job.started,job.failed", "POLLER_LOG_MIN_DURATION": "10m"},
            "POLLER_LOG_EVENTS: job.started reaches no minimum cost or duration and is not sent:",
        ),
        ({"no_proxy": "a.example,10.*"}, "no_proxy: '10.*' is ignored: use host, .domain"),
    ],
)
def test_check_warns_of_what_may_be_wrong(run_cli: RunCli, variables: dict[str, str], warning: str):
    """What is valid but suspicious is one line on stderr, without a secret; the exit code is 0."""
    result = run_cli("check", **GOOD | variables)

    assert (result.code, result.err.count("\n")) == (0, 1)
    assert result.err.startswith(f"warning: {warning}")
    assert "c4n4ry" not in result.err


def test_check_warns_of_a_ca_that_python_3_13_rejects(run_cli: RunCli, tmp_path: Path):
    """A CA without key usage is named whatever the Python."""
    ca = write_ca(tmp_path / "ca.pem", {"critical", "identifier"})

    result = run_cli("check", **GOOD, POLLER_CA_FILE=str(ca))

    assert result.code == 0
    assert result.err.startswith("warning: POLLER_CA_FILE: a certificate lacks a key usage: Python")


@pytest.mark.parametrize(
    ("version", "is_named"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_check_names_a_sqlite_that_may_damage_a_database(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], is_named: bool
):
    """A SQLite without the fix of its WAL-reset bug is named in a warning."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    result = run_cli("check", **GOOD)

    assert result.code == 0
    assert ("sqlite.org/wal.html#walresetbug" in result.err) == is_named


def test_check_warns_of_an_env_file_that_is_not_portable(run_cli: RunCli, tmp_path: Path):
    """A line that Docker reads differently is named; the file may be given before the verb."""
    path = tmp_path / "env"
    path.write_text('POLLER_DISCOVER_NAME="nightly *"\n')

    results = [
        run_cli("check", "--env-file", str(path), **GOOD),
        run_cli("--env-file", str(path), "check", **GOOD),
    ]

    assert {result.code for result in results} == {0}
    shown = f"{path}, line 1: docker keeps the quotes as part of the value: leave them out"
    assert {result.err for result in results} == {f"warning: --env-file: {shown}\n"}


def test_check_warns_where_a_short_terminal_shows_it(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
):
    """Warnings follow the settings, just before the verdict."""
    screen = StringIO()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)

    run_cli("check", **GOOD, POLLER_WEBHOOK_URL="https://h.example")

    *_, warning, _, verdict = screen.getvalue().splitlines()
    assert warning.startswith("warning: POLLER_WEBHOOK_SECRET: is not set")
    assert verdict.startswith("Configuration is valid.")


def test_check_rejects_a_store_that_is_no_database(run_cli: RunCli, tmp_path: Path):
    """A text file is not taken for a database, as by `run`."""
    notes = tmp_path / "notes.txt"
    notes.write_text("to do\n")

    result = run_cli("check", **GOOD | {"POLLER_STORE": str(notes)})

    assert (result.code, result.out) == (78, "")
    assert f"POLLER_STORE: {notes}: it is not a database; use another path" in result.err


def test_check_names_a_jobs_file_that_cannot_be_read(run_cli: RunCli, tmp_path: Path):
    """A pipe is no jobs file: `check` says so, and does not wait for it."""
    pipe = tmp_path / "jobs"
    os.mkfifo(pipe)

    result = run_cli("check", **GOOD, POLLER_JOBS_FILE=str(pipe))

    assert result.err.startswith(f"POLLER_JOBS_FILE: {pipe} is not a regular file; the daemon")
