"""What the verbs that send or drop say of each delivery."""

from collections.abc import Sequence
from typing import Final

from poller.cli import codes, complain
from poller.cli.output import show
from poller.store.desk import Desk, Row

COLUMNS: Final = ("event_id", "type", "job_id", "sink", "result")
AGAIN: Final = "will be sent again"


def tell_resent(desk: Desk, rows: Sequence[Row], style: str, *, empty: str) -> int:
    """Say of each delivery whether it goes again; exit 1 if any, or all, do not."""
    told = [row | {"result": row["obstacle"] or AGAIN} for row in rows]
    left = sum(row["obstacle"] is not None for row in rows)
    show(told, COLUMNS, style, empty=empty)
    if left < len(rows):
        complain(f"{len(rows) - left} of {len(rows)} will be sent again{when(desk)}")
    return codes.TROUBLE if left or not rows else codes.OK


def when(desk: Desk) -> str:
    """Say when what is pending goes out."""
    is_running = desk.status().is_running
    return (
        "; the running daemon sees it within 5 s"
        if is_running
        else " once `sutro-poller run` is started"
    )
