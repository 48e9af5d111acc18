"""Parts of any asyncio daemon: clock, HTTP client, log, liveness, systemd. They know no job."""
