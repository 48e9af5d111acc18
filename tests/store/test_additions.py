"""Jobs that are added at run time."""

from pathlib import Path

import pytest

from poller.core.outbox import Pruned, WriteBatch
from poller.core.state import Phase
from tests.support.store_builders import (
    DAY,
    AnyStore,
    ManualClock,
    a_state,
    a_store,
    reopen,
)


async def test_added_ids_survive_a_restart(store: AnyStore) -> None:
    """Added jobs are returned in the order of addition, each once."""
    await store.add_ids(["job-2", "job-1"])
    await store.add_ids(["job-3", "job-1"])
    await reopen(store)

    assert await store.added_ids() == ["job-2", "job-1", "job-3"]


async def test_removed_ids_are_gone(store: AnyStore) -> None:
    """A removed job is not returned any more; removing an unknown one changes nothing."""
    await store.add_ids(["job-1", "job-2"])
    await store.remove_ids(["job-1", "job-9"])
    await reopen(store)

    assert await store.added_ids() == ["job-2"]


@pytest.mark.parametrize("phase", [Phase.DONE, Phase.MISSING])
async def test_added_ids_are_pruned_after_their_end(
    store: AnyStore, now: ManualClock, phase: Phase
) -> None:
    """Thirty days after its end, or after it went missing, an added job is removed."""
    await store.add_ids(["job-1", "job-2"])
    await store.write(WriteBatch(states=[a_state("job-1", phase=phase), a_state("job-2")]))

    assert await store.prune(now.advance(30 * DAY - 1), []) == Pruned()
    assert await store.added_ids() == ["job-1", "job-2"]
    assert await store.prune(now.advance(1), []) == Pruned(additions=1)
    assert await store.added_ids() == ["job-2"]


@pytest.mark.parametrize("phase", [Phase.DONE, Phase.MISSING])
async def test_added_ids_are_kept_for_thirty_days_after_the_last_addition(
    store: AnyStore, now: ManualClock, phase: Phase
) -> None:
    """A job that is added again, long after it went missing, is kept for thirty days more."""
    await store.add_ids(["job-1", "job-2"])
    await store.write(WriteBatch(states=[a_state("job-1", phase=phase)]))
    now.advance(60 * DAY)
    await store.add_ids(["job-1"])

    assert await store.prune(now.advance(30 * DAY - 1), []) == Pruned()
    assert await store.added_ids() == ["job-1", "job-2"]
    assert await store.prune(now.advance(1), []) == Pruned(additions=1)


async def test_added_ids_belong_to_one_deployment(path: Path, now: ManualClock) -> None:
    """A job that was added for one deployment is not watched at another."""
    async with a_store(path, now) as store:
        await store.add_ids(["job-1"])
    async with a_store(path, now, deployment="elsewhere.example") as store:
        await store.add_ids(["job-2"])
        await store.remove_ids(["job-1"])
    async with a_store(path, now) as store:
        assert await store.added_ids() == ["job-1"]
