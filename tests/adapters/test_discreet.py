"""What a sink of others says of a failure."""

import pytest

from poller.core.errors import DeliveryError
from poller.sinks.redacting import RedactingSink
from tests.support.webhook_sinks import DELIVERY


class Blabber:
    """A sink whose receiver is gone, and which tells where that was."""

    async def send(self, delivery):
        """Take nothing."""
        raise DeliveryError("canary is gone", retry_after=3.0, is_gone=True, is_sink_fault=False)


async def test_reason_without_its_secret():
    """A secret is struck out of the reason, and all else that the error says stays."""
    with pytest.raises(DeliveryError) as caught:
        await RedactingSink(Blabber(), lambda: ("canary",)).send(DELIVERY)

    expected = DeliveryError("**** is gone", retry_after=3.0, is_gone=True, is_sink_fault=False)
    assert caught.value.__cause__ is None
    assert [getattr(caught.value, it) for it in DeliveryError.__slots__] == [
        getattr(expected, it) for it in DeliveryError.__slots__
    ]
