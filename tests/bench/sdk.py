"""Poll or await jobs with the official SDK, each in a thread: poll JOBS, or await JOBS.

The interpreter that has the SDK runs this program. The SDK prints spinners to stdout.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

from sutro import Sutro


def poll(sdk: Sutro, job_id: str) -> None:
    """Poll a job's status, again and again."""
    while True:
        sdk.get_job_status(job_id)


def wait(sdk: Sutro, job_id: str) -> None:
    """Wait for the end of a job."""
    sdk.await_job_completion(job_id, obtain_results=False)


if __name__ == "__main__":
    action = {"poll": poll, "await": wait}[sys.argv[1]]
    count, client = int(sys.argv[2]), Sutro()
    with ThreadPoolExecutor(count) as threads:
        for number in range(count):
            threads.submit(action, client, f"job-{number}")
