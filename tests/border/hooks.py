"""Settings of webhook sinks, and secrets for them."""

import base64
from typing import Final

from poller.environment import Reading
from poller.places import Places
from poller.sinks.webhook import WebhookSettings

OLD: Final = "whsec_" + base64.b64encode(b"old secret, twenty-four+").decode()
NEW: Final = "whsec_" + base64.b64encode(b"the new secret, thirty-two bytes").decode()


def settings(**variables: str) -> WebhookSettings:
    """Read the settings of a webhook sink from its variables."""
    environ = {f"POLLER_WEBHOOK_{name.upper()}": text for name, text in variables.items()}
    return Reading.of(WebhookSettings, "POLLER_WEBHOOK_", Places(environ=environ)).build()
