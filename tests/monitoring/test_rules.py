"""The alert rules of deploy/prometheus, as promtool evaluates them."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from poller.core.issues import Issue
from tests.docs.markdown import ROOT, anchors, read

RULES: Final = ROOT / "deploy" / "prometheus" / "rules.yml"
RUNBOOK: Final = "https://github.com/sutro-poller/sutro-poller/blob/main/docs/operations.md#"
UP: Final = 'up{job="sutro-poller",instance="host"}'
TARGET: Final = {UP: "1x120"}
"""The series of a target that is scraped every minute."""

needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not installed: apt-get install prometheus"
)


class Case(NamedTuple):
    """Series that make one alert fire at a minute, not a minute earlier, and series that do not."""

    bad: Mapping[str, str]
    minute: int
    good: Mapping[str, str]


def issue(name: str) -> str:
    """Return the series of an issue."""
    return f'sutro_poller_issue{{job="sutro-poller",instance="host",issue="{name}"}}'


def gauge(name: str, labels: str = "") -> str:
    """Return a series of the daemon."""
    return f'sutro_poller_{name}{{job="sutro-poller",instance="host"{labels}}}'


def of_issue(name: str, minutes: int) -> Case:
    """Return the case of an alert about an issue that begins at minute 10."""
    begins = f"0x9 1x{minutes + 60}"
    ends_early = f"0x9 1x{minutes - 1} 0x60" if minutes else "0x60"
    return Case({issue(name): begins}, 10 + minutes, {issue(name): ends_early})


def above(series: str, limit: float, minutes: int) -> Case:
    """Return the case of an alert about a value above a limit from minute 10 on."""
    return Case(
        {series: f"{limit}x9 {limit * 1.01 + 0.01}x{minutes + 60}"},
        10 + minutes,
        {series: f"{limit}x120"},
    )


def lags(fast: int, slow: int) -> dict[str, str]:
    """Return the series of ends that are detected within 60 s, and of later ones, per minute."""
    counts = {"60.0": fast, "120.0": fast + slow, "+Inf": fast + slow}
    return {
        gauge("detection_lag_seconds_bucket", f',le="{bound}"'): f"0+{count}x120"
        for bound, count in counts.items()
    }


BUDGET: Final = gauge("budget_spent_ratio", ',budget="daily"')
MISSING: Final = gauge("events_recorded_total", ',type="job.missing"')
SINK: Final = ',sink="webhook"'
CASES: Final = {
    "SutroPollerBudgetSpent": Case({BUDGET: "0.99x9 1x60"}, 10, {BUDGET: "0.99x120"}),
    "SutroPollerDown": Case({UP: "1x9 0x60"}, 15, {UP: "1x9 0x4 1x60"}),
    "SutroPollerAbsent": Case({UP: "1x4 stale"}, 10, {UP: "1x4 _x4 1x60"}),
    "SutroPollerNotReady": Case({gauge("ready"): "1x9 0x60"}, 15, {gauge("ready"): "0x4 1x60"}),
    "SutroPollerStoreUnavailable": of_issue("store_unavailable", 2),
    "SutroPollerEventIdCollision": of_issue("event_id_collision", 0),
    "SutroPollerFileUnreadable": of_issue("file_unreadable", 5),
    # The average of five minutes is above 0.5 s with the second sample of 2 s.
    "SutroPollerEventLoopSlow": Case(
        {gauge("event_loop_lag_seconds"): "0x9 2x60"},
        16,
        above(gauge("event_loop_lag_seconds"), 0.5, 5).good,
    ),
    "SutroPollerKeyRejected": of_issue("api_key_rejected", 1),
    "SutroPollerWrongEndpoint": of_issue("wrong_endpoint", 1),
    "SutroPollerApiSilent": of_issue("api_unreachable", 5),
    "SutroPollerListRejected": of_issue("list_rejected", 5),
    "SutroPollerJobMissing": of_issue("job_not_found", 0),
    "SutroPollerJobsStale": above(gauge("watched_jobs_stale"), 0, 10),
    "SutroPollerJobsOverdue": above(gauge("jobs_overdue"), 0, 5),
    "SutroPollerPollingDelayed": above(gauge("poll_interval_stretch_ratio"), 2, 30),
    "SutroPollerDetectionSlow": Case(lags(fast=9, slow=1), 16, lags(fast=99, slow=1)),
    "SutroPollerOutboxOld": above(gauge("outbox_oldest_age_seconds", SINK), 900, 5),
    "SutroPollerDeadLetters": above(gauge("dead_letters", SINK), 0, 0),
    "SutroPollerSinkDisabled": Case(
        {gauge("sink_enabled", SINK): "1x9 0x60"}, 10, {gauge("sink_enabled", SINK): "1x60"}
    ),
}


def rules() -> list[dict[str, Any]]:
    """Return all rules."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def firing(name: str, at: Mapping[int, bool]) -> list[dict[str, Any]]:
    """Return the expectation that at some minutes this alert fires, or not, and no other one."""
    (severity,) = (rule["labels"]["severity"] for rule in rules() if rule["alert"] == name)
    labels = f'{{alertname="{name}", severity="{severity}"}}'
    return [
        {
            "expr": 'count by (alertname, severity) (ALERTS{alertstate="firing"})',
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": labels, "value": 1}] if fires else [],
        }
        for minute, fires in at.items()
    ]


def promtool(folder: Path, *tests: tuple[Mapping[str, str], list[dict[str, Any]]]) -> str:
    """Run `promtool test rules` with series and expectations, and return its complaints."""
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": values}
                    for name, values in {**TARGET, **series}.items()
                ],
                "promql_expr_test": expected,
            }
            for series, expected in tests
        ],
    }
    path = folder / "test.yml"
    path.write_text(json.dumps(document), "utf-8")
    command = ["promtool", "test", "rules", path]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    return "" if ended.returncode == 0 else ended.stdout + ended.stderr


@needs_promtool
@pytest.mark.parametrize("name", CASES)
def test_alert_fires_when_it_should(name: str, tmp_path: Path):
    """The alert fires at its minute and not before, alone; good values fire none."""
    case = CASES[name]
    fires = firing(name, {case.minute - 1: False, case.minute: True})
    stays = firing(name, dict.fromkeys(range(0, 60, 5), False))

    assert promtool(tmp_path, (case.bad, fires), (case.good, stays)) == ""


@needs_promtool
def test_a_discovered_job_that_goes_missing_fires_an_alert_for_an_hour(tmp_path: Path):
    """A job that no setting names is in no issue; its event is counted for an hour."""
    expected = firing("SutroPollerJobMissing", {9: False, 11: True, 60: True, 75: False})

    assert promtool(tmp_path, ({MISSING: "0x9 1x100"}, expected)) == ""


@needs_promtool
def test_a_job_that_is_named_and_missing_fires_one_alert(tmp_path: Path):
    """The issue and the event of one job are one alert."""
    series = {issue("job_not_found"): "0x9 1x60", MISSING: "0x14 1x60"}

    assert promtool(tmp_path, (series, firing("SutroPollerJobMissing", {20: True}))) == ""


def test_each_rule_is_tested():
    """Each alert has a case, and each case an alert."""
    assert sorted(rule["alert"] for rule in rules()) == sorted(CASES)


def test_each_issue_has_an_alert():
    """An alert names each issue, but that of late deliveries, whose age has one."""
    named = set(re.findall(r'issue="(\w+)"', RULES.read_text("utf-8")))

    assert named == set(Issue) - {Issue.DELIVERY_DELAYED}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_rule_names_its_runbook_entry(rule: dict[str, Any]):
    """A rule has a severity, a summary, and a link to a heading of the operations page."""
    url = rule["annotations"]["runbook_url"]
    anchor = url.removeprefix(RUNBOOK)

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    assert anchor != url
    assert anchor in anchors("docs/operations.md")


@pytest.mark.parametrize("severity", ["critical", "warning"])
def test_the_page_names_each_alert(severity: str):
    """The documentation of the metrics lists the alerts of each severity."""
    (row,) = (line for line in read("docs/metrics.md").split("\n") if f"| {severity}: " in line)
    named = re.findall(r"`(SutroPoller\w+)`", row)

    assert sorted(named) == sorted(
        rule["alert"] for rule in rules() if rule["labels"]["severity"] == severity
    )
