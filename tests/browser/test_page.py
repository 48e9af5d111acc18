"""The pages in a real browser: live, with and without JavaScript, and for everyone."""

from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from poller.sutro.simulator.script import JobScript
from tests.support.api_server import live_daemon
from tests.support.secret_canaries import TOKEN
from tests.support.waiting import PATIENCE_SECONDS, until

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

expect.set_options(timeout=PATIENCE_SECONDS * 1_000)

RUNS = JobScript(job_id="job-1", name="Runs", queue_seconds=0.0, run_seconds=1e5)
FAILS = JobScript(
    job_id="job-2", name="Fails", queue_seconds=0.0, run_seconds=0.0, ends_as="failed"
)
HOSTILE = JobScript(
    job_id="job-3",
    name="<img src=x onerror=document.title='owned'>\u202e" + "x" * 10_000,
    model="</bdi><script>document.title='owned'</script>",
    queue_seconds=0.0,
    run_seconds=0.0,
)


async def test_page_shows_the_end_of_a_job_live(tmp_path: Path, page: Page):
    """The end of a job is shown without a reload, and what the reader does is kept."""
    ends = replace(RUNS, job_id="job-2", name="Ends")
    async with live_daemon(tmp_path, RUNS, ends, POLLER_JOB_IDS="job-1,job-2,job-9") as daemon:
        await daemon.wait_for_job("job-2", "RUNNING")
        await page.goto(daemon.url)
        await expect(page.locator("#live")).to_have_text("Live")
        await expect(page.locator("#active")).to_contain_text("Ends")
        await page.evaluate("window.isSame = true")
        await page.locator("#name").fill("typed")
        await page.locator("#unseen summary").click()
        link = page.locator("#active a", has_text="Runs")
        await link.focus()
        daemon.api.add(JobScript(job_id="job-9", queue_seconds=0.0, run_seconds=1e5))
        daemon.api.remove("job-2")  # it ends now
        daemon.api.add(replace(ends, run_seconds=0.0))

        await expect(page.locator("#ended")).to_contain_text("Ends")
        await expect(page.locator("#active")).not_to_contain_text("Ends")
        assert await page.evaluate("window.isSame")
        assert await page.locator("#name").input_value() == "typed"
        assert await link.evaluate("link => link === document.activeElement")


async def test_page_reports_a_lost_connection(tmp_path: Path, page: Page):
    """When the daemon stops, the page says so in words; a screen reader reads them."""
    async with live_daemon(tmp_path, RUNS) as daemon:
        await page.goto(daemon.url)
        live = page.locator("#live")
        await expect(live).to_have_text("Live")

    await expect(live).to_have_text("Connection lost. Trying again.")
    await expect(live).to_have_attribute("aria-live", "polite")


async def test_page_replays_and_drops_dead_letters(tmp_path: Path, page: Page):
    """A dead letter is replayed with its button; others are dropped after a confirmation."""
    changes = {"POLLER_RETRY_SCHEDULE": "0.05s", "POLLER_JOB_IDS": "job-2,job-3"}
    async with live_daemon(tmp_path, FAILS, HOSTILE, status=400, **changes) as daemon:
        admin = daemon.app._store.admin()
        await until(lambda: sum(row["dead"] for row in admin.sinks()) == 2)
        daemon.receiver.status = 204
        await page.goto(daemon.url)
        await page.get_by_role("button", name="Replay job.failed of job-2").click()
        await expect(page.locator(".message")).to_have_text("1 dead letter will be sent again.")
        await until(lambda: daemon.receiver.ends == ["job-2"])
        await page.locator("#sink-webhook summary").click()
        await page.get_by_role("button", name="Drop dead letters of webhook").click()
        await expect(page.locator(".message")).to_have_text("1 dead letter dropped.")
        await expect(page.locator("#dead")).to_have_count(0)


async def test_page_works_without_javascript(tmp_path: Path, browser: Browser):
    """The filter, the page of a job and a test of a sink need no script."""
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    async with live_daemon(tmp_path, RUNS, FAILS, POLLER_JOB_IDS="job-1,job-2") as daemon:
        await daemon.wait_for_job("job-1", "RUNNING")
        await daemon.wait_for_job("job-2", "FAILED")
        await page.goto(daemon.url)
        await page.get_by_label("State").select_option("FAILED")
        await page.get_by_role("button", name="Filter jobs").click()
        await expect(page.locator("#active")).not_to_contain_text("Runs")
        await page.get_by_role("link", name="Fails").click()
        await expect(page.locator("#failure")).to_contain_text("no output")
        await page.get_by_role("link", name="All jobs").click()
        await page.get_by_role("button", name="Test webhook").click()
        await expect(page.locator(".message")).to_have_text("The test of webhook was delivered.")


async def test_page_login(tmp_path: Path, page: Page):
    """A wrong token is rejected; with the right one the page opens, and the stream with it."""
    async with live_daemon(tmp_path, RUNS, POLLER_LISTEN_TOKEN=TOKEN) as daemon:
        await page.goto(f"{daemon.url}/dead-letters")
        await page.get_by_label("Token").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_have_text("That is not the token.")
        await page.get_by_label("Token").fill(TOKEN)
        await page.keyboard.press("Enter")
        await expect(page.locator("#live")).to_have_text("Live")
        assert TOKEN not in str(await page.context.cookies())
        assert TOKEN not in page.url
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_label("Token")).to_be_visible()


async def test_page_shows_hostile_names_as_text(tmp_path: Path, page: Page):
    """Markup in a name is not run, and a long name breaks no layout."""
    await page.set_viewport_size({"width": 390, "height": 800})
    async with live_daemon(tmp_path, HOSTILE, POLLER_JOB_IDS="job-3") as daemon:
        await daemon.wait_for_job("job-3", "SUCCEEDED")
        for path in ("/", "/jobs/job-3"):
            await page.goto(daemon.url + path)
            await expect(page.locator("main")).to_contain_text("<img src=x onerror")

            assert await page.title() != "owned"
            assert await page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
async def test_page_is_for_everyone(tmp_path: Path, browser: Browser, scheme, width: int):
    """No page has a violation that axe finds, neither on a phone nor in the dark."""
    context = await browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 900}
    )
    page = await context.new_page()
    ids = "job-1,job-2,job-3,job-9"
    async with live_daemon(
        tmp_path, RUNS, FAILS, HOSTILE, status=410, POLLER_JOB_IDS=ids
    ) as daemon:
        await daemon.wait_for_job("job-2", "FAILED")
        await until(lambda: any(row["dead"] for row in daemon.app._store.admin().sinks()))
        for path in ("/", "/jobs/job-2", "/dead-letters", "/nothing/../jobs/nothing"):
            await page.goto(daemon.url + path)
            found = await Axe().run(page)

            assert found.violations_count == 0, found.generate_report()
