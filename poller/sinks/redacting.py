"""A sink whose reasons for not taking an event hold no secret, whoever wrote it."""

from dataclasses import dataclass, replace

from poller.core.errors import DeliveryError
from poller.core.outbox import Delivery
from poller.runtime.redaction import Secrets, redact
from poller.sinks import Sink


@dataclass(frozen=True, slots=True)
class RedactingSink:
    """Pass events on to a sink, and strike secrets out of what it says of a failure.

    The log would do without this. But a reason is stored too, and that of a sink which is
    switched off is told to the other sinks.
    """

    sink: Sink
    secrets: Secrets

    async def send(self, delivery: Delivery) -> None:
        """Hand over one event. Raises DeliveryError."""
        try:
            await self.sink.send(delivery)
        except DeliveryError as error:
            raise replace(error, reason=redact(error.reason, self.secrets())) from None
