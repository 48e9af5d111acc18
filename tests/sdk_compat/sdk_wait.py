"""Wait for a job with the official SDK, then print what it shows, in each of its ways.

The interpreter that has the SDK runs this program. The argument is a job id, the result one line of
JSON. `printed` holds the spinners and messages that the SDK prints to stdout.
"""

import json
import sys
from contextlib import redirect_stdout
from io import StringIO

from sutro import Sutro


def wait_for(job_id: str) -> dict[str, object]:
    """Wait for one job."""
    with redirect_stdout(StringIO()) as printed:
        sdk = Sutro()
        sdk.await_job_completion(job_id, timeout=50, obtain_results=False)
        sdk.attach(job_id)
        status, jobs = sdk.get_job_status(job_id), sdk.list_jobs()
    return {"status": status, "jobs": jobs, "printed": printed.getvalue()}


if __name__ == "__main__":
    answer = wait_for(sys.argv[1])
    print(json.dumps(answer))  # noqa: T201 - the result
