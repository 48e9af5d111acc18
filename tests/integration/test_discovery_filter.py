"""Which names and models the patterns of discovery admit."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.parsing import parse_job
from poller.polling.discovery import DiscoveryFilter

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("pattern", "name", "is_admitted"),
    [
        ("[prod] *", "[prod] nightly tags", True),
        ("[prod] *", "p nightly tags", False),
        ("[!a]?", "[!a]z", True),
        ("batch [1]", "batch [1]", True),
        ("nightly *", "nightly tags", True),
        ("nightly ?", "nightly tags", False),
    ],
)
def test_discovery_pattern_has_two_wildcards(pattern: str, name: str, is_admitted: bool):
    """In a pattern only * and ? are wildcards; a bracket is a bracket."""
    job = parse_job({"job_id": "job-1", "status": "RUNNING", "name": name, "model": name})

    for job_filter in (DiscoveryFilter(name=pattern), DiscoveryFilter(model=pattern)):
        assert job_filter.admits(job, now=NOW, started_at=NOW) == is_admitted


@given(name=st.text() | st.text("[]!-^ab"))
def test_discovery_pattern_admits_itself(name: str):
    """A name is admitted by itself as the pattern, whatever its characters."""
    job = replace(parse_job({"job_id": "job-1", "status": "RUNNING"}), name=name)

    assert DiscoveryFilter(name=name).admits(job, now=NOW, started_at=NOW)
