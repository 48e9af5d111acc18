"""Which jobs are watched, when each is polled, and what an observation changes."""
