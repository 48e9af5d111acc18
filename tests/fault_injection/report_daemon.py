"""The daemon as a program, which makes the daily report as soon as it has started."""

from poller.cli import main
from poller.store import daily_report

if __name__ == "__main__":
    daily_report.FIRST_CHECK_DELAY = 0.0  # type: ignore[misc] - not a minute for each start
    main(["run"])
