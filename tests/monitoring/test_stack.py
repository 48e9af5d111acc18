"""The rules and the dashboard, in a real Prometheus that scrapes a daemon in trouble."""

import json
import math
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
import yaml

from poller.api.metrics import PREFIX
from tests.docs.markdown import ROOT
from tests.docs.reference import metrics as metrics_table
from tests.monitoring.stack import READY_SECONDS, RULES, UNUSED, Stack, a_stack, missing_programs
from tests.support.waiting import until

needs_programs = pytest.mark.skipif(
    bool(missing_programs()), reason=f"apt-get install {' '.join(missing_programs())}"
)

DASHBOARD: Final = ROOT / "deploy" / "grafana" / "dashboard.json"
IN_TROUBLE: Final = ("SutroPollerKeyRejected", "SutroPollerSinkDisabled")
VARIABLES: Final = {"$__rate_interval": "5m", "$job": "sutro-poller", "$instance": ".*"}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """Run a Prometheus and an Alertmanager beside a daemon in trouble."""
    async with a_stack(tmp_path) as opened:
        yield opened


def queries() -> Iterator[tuple[str, str]]:
    """Yield the expressions of the dashboard, with the title of the panel."""
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            yield panel["title"], expression


def has_value(series: dict[str, Any]) -> bool:
    """Return whether a series has a number now."""
    return not math.isnan(float(series["value"][1]))


async def empty_panels(stack: Stack) -> list[tuple[str, str]]:
    """Return the queries that have no number now."""
    return [
        (title, expression)
        for title, expression in queries()
        if not any(map(has_value, await stack.query(expression)))
    ]


@needs_programs
@pytest.mark.slow
async def test_a_daemon_in_trouble_is_seen_in_alerts_and_panels(stack: Stack):
    """Its alerts arrive at a receiver of Alertmanager, and each panel of the dashboard has data."""
    in_trouble = {("SutroPollerDown", UNUSED)} | {(name, stack.target) for name in IN_TROUBLE}
    await until(lambda: in_trouble <= stack.alerts.keys(), within=READY_SECONDS)
    alerts = {name: stack.alerts[name, instance] for name, instance in in_trouble}
    with anyio.move_on_after(READY_SECONDS):  # the last scrapes may be in none yet
        while await empty_panels(stack):  # noqa: ASYNC110 - it changes in another process
            await anyio.sleep(1.0)
    empty = await empty_panels(stack)

    rules = {
        rule["alert"]: rule
        for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]
        for rule in group["rules"]
    }
    assert not empty
    assert "the receiver of webhook" in alerts["SutroPollerSinkDisabled"]["annotations"]["summary"]
    for name, alert in alerts.items():
        assert alert["labels"]["severity"] == "critical"
        assert alert["annotations"]["runbook_url"] == rules[name]["annotations"]["runbook_url"]
        assert "{{" not in alert["annotations"]["summary"]


def test_each_metric_is_in_a_panel():
    """The dashboard shows each metric of the daemon."""
    names = [line.split("`")[1] for line in metrics_table().splitlines() if f"`{PREFIX}" in line]
    shown = " ".join(expression for _, expression in queries())

    assert [name for name in names if name not in shown] == []
