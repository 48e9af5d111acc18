"""Let the official SDK wait for a job, then tell of it in every way that it has.

It is run by the interpreter that has the SDK. The argument is a job's id, the answer one line of
JSON. The SDK prints spinners and messages to stdout: they are `said`.
"""

import json
import sys
from contextlib import redirect_stdout
from io import StringIO

from sutro import Sutro


def ask(job_id: str) -> dict[str, object]:
    """Ask for one job."""
    with redirect_stdout(StringIO()) as said:
        sdk = Sutro()
        sdk.await_job_completion(job_id, timeout=50, obtain_results=False)
        sdk.attach(job_id)
        status, jobs = sdk.get_job_status(job_id), sdk.list_jobs()
    return {"status": status, "jobs": jobs, "said": said.getvalue()}


if __name__ == "__main__":
    answer = ask(sys.argv[1])
    print(json.dumps(answer))  # noqa: T201 - this is the answer
