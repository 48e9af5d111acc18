"""Deliver the events of the outbox to the sinks."""
