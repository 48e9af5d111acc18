"""What a page of the list says about the jobs that it shows."""

from collections.abc import Sequence

from poller.core.jobs import Job
from poller.sutro.list_page import PageRead
from poller.sutro.port import Observation


class PageView(list[Observation]):
    """The observations of a page, without the jobs in its sum that are as they are known.

    `rows` are the ids of all jobs of the page as it is now, `shown` of those that the response has.
    """

    def __init__(self, read: PageRead, jobs: Sequence[Job]) -> None:
        super().__init__(observations(jobs, read.requested_at))
        self.page = read.request.page
        self.rows = self.page.job_ids
        self.shown = [job.job_id for job in read.page.jobs]
        self.requested_at = read.requested_at


def observations(shown: Sequence[Job], requested_at: float) -> Sequence[Observation]:
    """Return what a page shows; of a job that it shows twice, the more advanced status."""
    jobs = {job.job_id: job for job in shown}
    if len(jobs) < len(shown):
        jobs = {job.job_id: job for job in sorted(shown, key=lambda job: job.status.rank)}
    return [Observation(job_id, requested_at, job, from_list=True) for job_id, job in jobs.items()]
