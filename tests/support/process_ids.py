"""Process ids that a command writes, and whether those processes still run."""

from pathlib import Path

from tests.support.waiting import until


def is_running(process_id: int) -> bool:
    """Return whether a process has not ended; one that nobody collects has ended."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def written(path: Path, count: int) -> list[int]:
    """Return the ids in a file; none until it has so many."""
    ids = [int(word) for word in path.read_text("utf-8").split()] if path.exists() else []
    return ids if len(ids) == count else []


async def all_ended(process_ids: list[int]) -> bool:
    """Wait until all processes have ended."""
    assert process_ids
    return await until(lambda: not any(map(is_running, process_ids)))
