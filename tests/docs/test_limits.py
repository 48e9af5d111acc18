"""The limits of the examples against what was measured."""

import re
from typing import Final

import pytest

from tests.docs.markdown import read

LIMITED: Final = (
    "deploy/compose/compose.yaml",
    "deploy/kubernetes/deployment/deployment.yaml",
    "deploy/kubernetes/job/job.yaml",
    "deploy/kubernetes/sidecar/poller.yaml",
)
LIMIT: Final = re.compile(r"(?:mem_limit:|limits:\n +memory:) (\d+)(?:m|Mi)\b")
MEASURED: Final = re.compile(r"\| resident memory .* (\d+) MiB \|\n")
"""The last column is that of 100,000 jobs."""


@pytest.mark.parametrize("path", LIMITED)
def test_memory_limit_is_above_what_was_measured(path: str):
    """An example allows a quarter more memory than 100,000 watched jobs were measured to take."""
    (limit,) = LIMIT.findall(read(path))
    (measured,) = MEASURED.findall(read("docs/performance.md"))

    assert int(limit) >= 1.25 * int(measured)
