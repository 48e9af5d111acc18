"""Run TRIGGERS triggers of Airflow's OpenAI provider in one loop, as the triggerer does.

The interpreter that has Airflow runs this program. Each trigger polls a batch of its own for ever,
without a pause between two polls. To Airflow's advantage, the supervisor, the database, the
heartbeat and the log of each trigger are left out.
"""

import asyncio
import logging
import sys

from airflow.providers.openai.triggers.openai import OpenAIBatchTrigger


async def run(trigger: OpenAIBatchTrigger) -> None:
    """Await the events of a trigger, as the triggerer does."""
    async for event in trigger.run():
        raise RuntimeError(event)


async def main(triggers: int) -> None:
    """Run all triggers."""
    async with asyncio.TaskGroup() as group:
        for number in range(triggers):
            trigger = OpenAIBatchTrigger("openai_default", f"batch_{number}", 0.0, timeout=3_600.0)
            group.create_task(run(trigger))


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.WARNING)
    asyncio.run(main(int(sys.argv[1])))
