"""Run triggers of Airflow's OpenAI provider in one loop, as the triggerer does: TRIGGERS of them.

It is run by the interpreter that has Airflow. Each polls a batch of its own for ever, without a
pause between two polls. Left out, to Airflow's advantage, is all that surrounds them: the
supervisor, the database, the heartbeat and the log of each trigger.
"""

import asyncio
import logging
import sys

from airflow.providers.openai.triggers.openai import OpenAIBatchTrigger


async def run(trigger: OpenAIBatchTrigger) -> None:
    """Take what a trigger tells, as the triggerer takes it."""
    async for event in trigger.run():
        raise RuntimeError(event)


async def main(triggers: int) -> None:
    """Run so many triggers."""
    async with asyncio.TaskGroup() as group:
        for number in range(triggers):
            trigger = OpenAIBatchTrigger("openai_default", f"batch_{number}", 0.0, timeout=3_600.0)
            group.create_task(run(trigger))


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.WARNING)
    asyncio.run(main(int(sys.argv[1])))
