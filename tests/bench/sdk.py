"""Let the official SDK look after jobs, each in a thread: poll JOBS, or await JOBS.

It is run by the interpreter that has the SDK. The SDK draws spinners on stdout.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

from sutro import Sutro


def poll(sdk: Sutro, job_id: str) -> None:
    """Ask for a job's status, again and again."""
    while True:
        sdk.get_job_status(job_id)


def wait(sdk: Sutro, job_id: str) -> None:
    """Wait for the end of a job."""
    sdk.await_job_completion(job_id, obtain_results=False)


if __name__ == "__main__":
    look_after = {"poll": poll, "await": wait}[sys.argv[1]]
    count, client = int(sys.argv[2]), Sutro()
    with ThreadPoolExecutor(count) as threads:
        for number in range(count):
            threads.submit(look_after, client, f"job-{number}")
