"""Submit jobs with the official SDK, follow them in each of its ways, and print what it shows.

The interpreter that has the SDK runs this program. The result is one line of JSON.
"""

import json
from contextlib import redirect_stdout
from io import StringIO

from sutro import Sutro

INPUTS = ["Great!", "Broken.", "It works."]


def submit() -> dict[str, object]:
    """Submit jobs: one is waited for, one cancelled, one followed, and one estimated."""
    with redirect_stdout(StringIO()) as printed:
        sdk = Sutro()
        waited = sdk.infer(INPUTS, name="waited", job_priority=1, system_prompt="Classify.")
        results = sdk.await_job_completion(waited, timeout=50)
        cancelled = sdk.infer(INPUTS, name="cancelled", stay_attached=False)
        cancellation = sdk.cancel_job(cancelled)
        attached = sdk.infer(INPUTS, name="attached")
        estimated = sdk.infer(INPUTS, name="estimated", dry_run=True)
    return {
        "job_ids": [waited, cancelled, attached, estimated],
        "outputs": results["inference_result"].to_list(),
        "cancellation": cancellation,
        "printed": printed.getvalue(),
    }


if __name__ == "__main__":
    result = submit()
    print(json.dumps(result))  # noqa: T201 - the result
