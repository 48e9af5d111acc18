"""Weigh the daemon while it watches N jobs at the default pace: python tests/bench/weight.py N.

It is run as users run it, with the log and a webhook as sinks and SQLite, against the simulator.
"""

import json
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio

from poller.sutro.script import Script
from poller.sutro.simulator import Simulator, serve

WARM_UP: Final = 10.0
SECONDS: Final = 30.0
TICKS: Final = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Read how much CPU a process has used (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid: int) -> float:
    """Read how much memory a process holds (proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmRSS"))
    return int(kib) / 1024


def environment(folder: Path, jobs: int, url: str, key: str) -> dict[str, str]:
    """Configure the daemon; nobody listens where its webhook would go, and no job ends."""
    (folder / "jobs").write_text("".join(f"job-{number}\n" for number in range(jobs)))
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "SUTRO_API_URL": url,
        "SUTRO_API_KEY": key,
        "POLLER_JOBS_FILE": str(folder / "jobs"),
        "POLLER_WEBHOOK_URL": "http://127.0.0.1:9/events",
        "POLLER_LISTEN": "127.0.0.1:0",
    }


async def weigh(jobs: int) -> dict[str, float]:
    """Run one daemon for WARM_UP and SECONDS, and give what it used."""
    api = Simulator()
    for number in range(jobs):
        api.add(Script(job_id=f"job-{number}", queue_seconds=1.0, run_seconds=1e5))
    with TemporaryDirectory() as folder:
        async with serve(api) as url:
            variables = environment(Path(folder), jobs, url, api.key)
            command = [sys.executable, "-m", "poller", "run"]
            process = await anyio.open_process(command, env=variables, stdout=None, cwd=folder)
            began = time.time()
            while not api.log:  # noqa: ASYNC110 - another process brings it about
                await anyio.sleep(0.005)
            start = {"start_s": api.log[0].at - began, "start_cpu_s": cpu_seconds(process.pid)}
            await anyio.sleep(WARM_UP)
            used, asked = cpu_seconds(process.pid), api.requests.total()
            await anyio.sleep(SECONDS)
            result = start | {
                "cpu_s": cpu_seconds(process.pid) - used,
                "requests": api.requests.total() - asked,
                "rss_mib": resident_mib(process.pid),
            }
            process.terminate()
            await process.wait()
    return {name: round(value, 2) for name, value in result.items()}


if __name__ == "__main__":
    count = int(sys.argv[1])
    print(json.dumps({"jobs": count} | anyio.run(weigh, count)))  # noqa: T201 - the figures
