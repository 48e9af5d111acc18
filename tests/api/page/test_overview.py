"""The pages for people: what they show, their filters, and what they load."""

import re
from dataclasses import replace
from datetime import timedelta
from html import unescape
from pathlib import Path

import pytest

from poller.core.jobs import format_rfc3339
from poller.core.parsing import parse_job
from poller.store.admin import StoreAdmin
from poller.store.overview import JobFilter, jobs_in_states
from poller.sutro.simulator.script import JobScript
from tests.api.conftest import ENDS, RUNS
from tests.support.api_server import LiveDaemon, Response, live_daemon
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

FAILS = JobScript(
    job_id="job-3",
    queue_seconds=0.0,
    run_seconds=0.0,
    ends_as="failed",
    name="Summaries",
    model="qwen-3-32b",
    failure="The model returned no output.",
)
HOSTILE = JobScript(
    job_id="job-<b>&/?#%2e",
    queue_seconds=0.0,
    run_seconds=0.0,
    ends_as="failed",
    name="<script>alert(1)</script>\u202e\u2066" + "x" * 10_000,
    model='"><img src=x onerror=alert(1)>',
    failure="</pre><script>alert(2)</script>",
)


def words(response: Response) -> str:
    """Return the text of a page, as people see it."""
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", response.text)).split())


def section(response: Response, name: str) -> str:
    """Return the text of one section of a page."""
    _, _, rest = response.text.partition(f'<section id="{name}"')
    assert rest
    text = "<" + rest.partition("</section>")[0]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())


async def test_page_shows_health_jobs_and_sinks(daemon: LiveDaemon):
    """The page at / shows what is well, the jobs that run and have ended, and the sinks."""
    await until(lambda: daemon.receiver.ends)
    await daemon.wait_for_deliveries()
    page = await daemon.get("/")

    assert page.status == 200
    assert "All is well" in section(page, "health")
    assert "Sutro API Reachable" in section(page, "health")
    assert "API key Accepted" in section(page, "health")
    assert "job-1" in section(page, "active")
    assert "RUNNING running for" in section(page, "active")
    assert "job-2" not in section(page, "active")
    assert re.search(r"job-2 .* SUCCEEDED .* in .* out \$", section(page, "ended"))
    assert "webhook enabled 0" in section(page, "deliveries")


async def test_page_shows_what_needs_attention(tmp_path: Path):
    """A disabled sink and a job that the API does not know are shown, with what to do."""
    ids = "job-1,job-2,job-9"
    async with live_daemon(tmp_path, RUNS, ENDS, status=410, POLLER_JOB_IDS=ids) as daemon:
        await daemon.wait_for_job("job-2", "SUCCEEDED")
        admin = daemon.app._store.admin()
        await until(lambda: any(row["dead"] for row in admin.sinks()))
        await until(lambda: daemon.app.status.issues)
        await until(lambda: daemon.app.status.now() - daemon.app.status._backlog_read_at > 1.0)
        page = await daemon.get("/")

    health = section(page, "health")
    assert "2 things need attention" in health
    assert "Sink webhook is disabled Its receiver returned 410." in health
    assert "Job not found The API does not know a job" in health
    assert "Dead letters 1" in health
    assert "1 watched without a status yet job-9 not found" in section(page, "active")
    assert "job.succeeded job-2 webhook" in section(page, "dead")


OWN_SOURCES = dict.fromkeys(
    ("script-src", "style-src", "img-src", "connect-src", "form-action"), "'self'"
)
NO_SOURCES = dict.fromkeys(("default-src", "base-uri", "frame-ancestors"), "'none'")


async def test_page_loads_nothing_but_its_own_files(daemon: LiveDaemon):
    """No script or style is in a page, and the browser may load only files of this daemon."""
    for path in ("/", "/dead-letters", "/jobs/job-1", "/jobs/nothing", "/?x=1"):
        page = await daemon.get(path)
        policy = page.headers["Content-Security-Policy"].split("; ")

        assert dict(rule.split(" ", 1) for rule in policy) == OWN_SOURCES | NO_SOURCES
        assert page.headers["Referrer-Policy"] == "same-origin"
        assert page.headers["Cache-Control"] == "no-store"
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son[a-z]+=", page.text)


async def test_page_files_never_change(daemon: LiveDaemon):
    """The files of a page are kept by browsers: their names have a digest of their contents."""
    page = await daemon.get("/")
    names = re.findall(r'(?:href|src)="(/assets/[^"]+)"', page.text)
    files = [await daemon.get(name) for name in names]
    unknown = await daemon.get("/assets/page.0000000000000000.css")

    assert {name.rpartition(".")[2] for name in names} == {"css", "js", "svg"}
    assert {file.headers["Cache-Control"] for file in files} == {
        "public, max-age=31536000, immutable"
    }
    assert {file.headers["X-Content-Type-Options"] for file in files} == {"nosniff"}
    assert unknown.status == 404


async def test_page_shows_hostile_texts_as_they_are(tmp_path: Path):
    """Markup is text, controls of direction are gone, and a long name is cut in lists."""
    async with live_daemon(tmp_path, HOSTILE, POLLER_JOB_IDS=HOSTILE.job_id) as daemon:
        path = "/jobs/job-%3Cb%3E%26%2F%3F%23%252e"
        await daemon.wait_for_job("job-%3Cb%3E%26%2F%3F%23%252e", "FAILED")
        overview, job = await daemon.get("/"), await daemon.get(path)

    assert f'href="{path}"' in overview.text
    for page in (overview, job):
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert not set(page.text) & {"\u202e", "\u2066"}
        assert "<script>alert(1)</script>xxx" in words(page).replace(" ", "")
    assert "x" * 121 not in overview.text
    assert "x" * 400 in job.text
    assert "</pre><script>alert(2)</script>" in words(job)


FILTERS = {
    "": ["job-1", "job-2", "job-3"],
    "name=&model=&state=": ["job-1", "job-2", "job-3"],
    "name=SUMM": ["job-3"],
    "name=job-2": ["job-2"],
    "name=%25": [],
    "model=Qwen": ["job-3"],
    "state=RUNNING": ["job-1"],
    "state=FAILED&name=summ&model=llama": [],
}


async def test_page_filters_jobs(tmp_path: Path):
    """Jobs are filtered by a part of the name or ID, a part of the model, and the state."""
    ids = "job-1,job-2,job-3"
    async with live_daemon(tmp_path, RUNS, ENDS, FAILS, POLLER_JOB_IDS=ids) as daemon:
        await daemon.wait_for_job("job-1", "RUNNING")
        await daemon.wait_for_job("job-2", "SUCCEEDED")
        await daemon.wait_for_job("job-3", "FAILED")
        pages = {query: await daemon.get(f"/?{query}") for query in FILTERS}

    shown = {
        query: sorted(re.findall(r'<tr role="row" id="job-(job-\d)"', page.text))
        for query, page in pages.items()
    }
    assert shown == FILTERS


UNKNOWN = ("x=1", "state=DONE", "active=1", "message=<b>", "name=a&name=b")


async def test_page_rejects_what_it_does_not_know(daemon: LiveDaemon):
    """Unknown parameters and values are rejected, in words."""
    for query in UNKNOWN:
        page = await daemon.get(f"/?{query}")

        assert page.status == 400
        assert "Invalid request" in words(page)


async def test_page_shows_more_jobs_from_the_last_one(tmp_path: Path):
    """Each part of the list of ended jobs begins after the last one of the part before."""
    scripts = [
        JobScript(job_id=f"job-{number:02}", queue_seconds=0.0, run_seconds=0.0)
        for number in range(30)
    ]
    ids = ",".join(script.job_id for script in scripts)
    async with live_daemon(tmp_path, *scripts, POLLER_JOB_IDS=ids) as daemon:
        await until(lambda: daemon.app.status.jobs.get("SUCCEEDED") == 30)
        first = await daemon.get("/")
        (following,) = re.findall(r'href="([^"#]+)#ended">Show more', first.text)
        second = await daemon.get(unescape(following))

    parts = [re.findall(r'id="job-(job-\d\d)"', page.text) for page in (first, second)]
    assert (len(parts[0]), len(parts[1])) == (25, 5)
    assert sorted(parts[0] + parts[1]) == sorted(script.job_id for script in scripts)
    assert "Back to the first" in words(second)


async def test_page_of_many_jobs_is_small(tmp_path: Path):
    """A page has at most 50 active jobs and the beginning of each name, and is below 200 KiB."""
    scripts = [
        replace(RUNS, job_id=f"job-{number}", name="name " * 100, model="m" * 500)
        for number in range(60)
    ]
    ids = ",".join(script.job_id for script in scripts)
    async with live_daemon(tmp_path, *scripts, POLLER_JOB_IDS=ids) as daemon:
        await until(lambda: daemon.app.status.jobs.get("RUNNING") == 60)
        page = await daemon.get("/")

    assert len(re.findall(r'<tr role="row" id="job-', page.text)) == 50
    assert len(page.text.encode()) < 200 * 1024


async def test_page_searches_a_part_of_the_history_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A filter of names reads a limited number of jobs, and goes on from there."""
    monkeypatch.setattr("poller.store.overview.READ_JOBS", 2)
    ids = "job-1,job-2,job-3"
    async with live_daemon(tmp_path, RUNS, ENDS, FAILS, POLLER_JOB_IDS=ids) as daemon:
        await until(lambda: "UNKNOWN" not in daemon.app.status.jobs)
        await daemon.wait_for_job("job-2", "SUCCEEDED")
        await daemon.wait_for_job("job-3", "FAILED")
        admin: StoreAdmin = daemon.app._store.admin()
        wanted = JobFilter(states=("SUCCEEDED", "FAILED", "RUNNING"), name="job-", limit=9)
        first = jobs_in_states(admin, wanted)
        second = jobs_in_states(admin, wanted, first.after)

    assert [len(first.rows), len(second.rows)] == [2, 1]
    assert second.after is None


async def test_job_page_has_a_timeline(tmp_path: Path):
    """The page of a job has its fields, the whole failure reason, and each event and delivery."""
    async with live_daemon(tmp_path, FAILS, POLLER_JOB_IDS="job-3") as daemon:
        await until(lambda: daemon.receiver.ends)
        await daemon.wait_for_deliveries()
        page = await daemon.get("/jobs/job-3")

    text = words(page)
    assert "Summaries FAILED watched because of POLLER_JOB_IDS" in text
    assert "Model qwen-3-32b" in text
    assert "Why it failed The model returned no output." in text
    steps = re.findall(r'<li class="step[^>]*><strong>([^<]+)</strong>', page.text)
    assert steps[:2] == ["Created", "Started"]
    assert set(steps[2:]) == {"Ended", "job.failed"}
    assert re.search(r"job.failed .* detected .* after the change", text)
    assert re.search(r"delivered webhook .* ago|delivered webhook just now", text)


async def test_job_page_of_an_unseen_job(daemon: LiveDaemon):
    """A job that no response has shown yet has a page; one that was never watched has none."""
    await daemon.post("/v1/jobs", {"job_ids": ["job-9"]})
    unseen, unknown = await daemon.get("/jobs/job-9"), await daemon.get("/jobs/job-8")

    assert (unseen.status, unknown.status) == (200, 404)
    assert "job-9 UNKNOWN" in words(unseen)
    assert "no job with this ID is or was watched" in words(unknown)


async def test_page_of_a_daemon_that_is_not_ready(tmp_path: Path):
    """While the store cannot be read, the page shows the health of the daemon alone."""
    async with live_daemon(tmp_path, RUNS, POLLER_JOB_IDS="job-1") as daemon:
        daemon.app._api.detach()
        overview, job = await daemon.get("/"), await daemon.get("/jobs/job-1")

    assert (overview.status, job.status) == (503, 503)
    assert overview.headers["Retry-After"] == "5"
    assert "Daemon not ready" in section(overview, "problem")
    assert "Sutro API" in section(overview, "health")


async def test_page_of_a_bug(daemon: LiveDaemon, monkeypatch: pytest.MonkeyPatch):
    """A bug shows the name that its log line has."""
    monkeypatch.setattr(StoreAdmin, "sinks", None)
    page = await daemon.get("/")
    (logged,) = [entry for entry in daemon.log if entry["event"] == "api.request_failed"]

    assert page.status == 500
    assert f"request_id {logged['request_id']}" in words(page)


async def test_page_and_api_show_when_a_job_may_be_expected_to_end(daemon: LiveDaemon):
    """A job that runs has a bar until its expected end, and the ended jobs behind it."""
    shown = (await daemon.get("/v1/jobs/job-1")).body
    job = parse_job(shown["job"])
    before = shown["expected_end"]
    history = daemon.app._api.daemon.watcher.tracker.history
    for number in range(20):
        ended = job.datetime_started + timedelta(days=100 + number)
        history.add(replace(job, job_id=f"past-{number}", datetime_completed=ended))

    after = (await daemon.get("/v1/jobs/job-1")).body["expected_end"]
    listed = (await daemon.get("/v1/jobs?state=RUNNING")).body["jobs"][0]["expected_end"]
    (expected,) = re.findall("<progress.*?</span>", (await daemon.get("/")).text, re.DOTALL)
    page = await daemon.get("/jobs/job-1")

    assert before is None
    assert after == listed
    assert after["p50"] == format_rfc3339(job.datetime_started + timedelta(days=109, hours=12))
    assert after["basis"]["samples"] == 20
    assert after["basis"]["class"]["model"] == job.model
    assert 'value="0"' in expected
    assert "in 109d" in expected
    assert "from 20 ended jobs of llama-3.3-70b with 32 to 63 rows" in section(page, "job")
    assert (await daemon.get("/v1/jobs/job-2")).body["expected_end"] is None
