"""Delivery: the events of the outbox are sent to the sinks."""
