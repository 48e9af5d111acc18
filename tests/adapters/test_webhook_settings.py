"""What a webhook sink can be told."""

import base64

import pytest
from structlog.testing import capture_logs

from poller.core.errors import ConfigError
from poller.runtime.http import OutboundSettings
from poller.settings.base import Reloadable
from poller.sinks.webhook import open_sink, signing_keys
from tests.support.webhook_sinks import NEW, OLD, settings


def test_signing_keys():
    """One secret or two are read as the bytes that they stand for."""
    assert signing_keys(OLD) == [b"old secret, twenty-four+"]
    assert len(signing_keys(f" {NEW}\n{OLD} ")) == 2


@pytest.mark.parametrize("size", [24, 64])
def test_secret_of_a_legal_size(size: int):
    """A secret may hold 24 to 64 bytes."""
    assert signing_keys("whsec_" + base64.b64encode(bytes(size)).decode()) == [bytes(size)]


@pytest.mark.parametrize(
    ("secrets", "rule"),
    [
        ("", "one secret, or two"),
        (f"{OLD} {NEW} {OLD}", "one secret, or two"),
        (OLD.removeprefix("whsec_"), "must begin with whsec_"),
        ("WHSEC_" + OLD.removeprefix("whsec_"), "must begin with whsec_"),
        ("whsec_cana*y", "whsec_ and base64"),
        ("whsec_canaré", "whsec_ and base64"),
        ("whsec_canarycanary", "24 to 64 bytes"),
        ("whsec_" + base64.b64encode(bytes(23)).decode(), "24 to 64 bytes"),
        ("whsec_" + base64.b64encode(bytes(65)).decode(), "24 to 64 bytes"),
    ],
)
def test_bad_secret(secrets: str, rule: str):
    """A secret that breaks a rule is refused with the rule."""
    with pytest.raises(ValueError, match=rule):
        signing_keys(secrets)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "POLLER_WEBHOOK_URL: is required"),
        ({"url": "canary"}, "POLLER_WEBHOOK_URL: must be a URL"),
        ({"url": "ftp://canary"}, "POLLER_WEBHOOK_URL: must be a URL"),
        ({"url": "http://canary:canary"}, "POLLER_WEBHOOK_URL: must be a URL"),
        ({"secret": "canary"}, "POLLER_WEBHOOK_SECRET: each secret must begin with whsec_"),
        ({"secret": "whsec_canarycanary"}, "POLLER_WEBHOOK_SECRET: a secret must have"),
        ({"secret": "whsec_canaré"}, "POLLER_WEBHOOK_SECRET: a secret must be whsec_ and base64"),
        ({"format": "canary"}, "POLLER_WEBHOOK_FORMAT: must be 'standard', 'cloudevents'"),
        ({"timeout": "canary"}, "POLLER_WEBHOOK_TIMEOUT: must be a duration"),
        ({"timeout": "0"}, "POLLER_WEBHOOK_TIMEOUT: must be greater than 0"),
        ({"timeout": "61s"}, "POLLER_WEBHOOK_TIMEOUT: must be less than or equal to 60"),
        ({"events": "canary"}, "POLLER_WEBHOOK_EVENTS: must be * or some of"),
        ({"headers": "canary"}, "POLLER_WEBHOOK_HEADERS: must be a JSON object of texts"),
        ({"headers": '["canary"]'}, "POLLER_WEBHOOK_HEADERS: must be a JSON object of texts"),
        ({"headers": '{"canary": 1}'}, "POLLER_WEBHOOK_HEADERS: must be a JSON object of texts"),
        ({"headers": "[" * 100_000}, "POLLER_WEBHOOK_HEADERS: must be a JSON object of texts"),
        ({"headers": '{"X: canary": ""}'}, "POLLER_WEBHOOK_HEADERS: header 1 has an invalid name"),
        ({"headers": '{"": "canary"}'}, "POLLER_WEBHOOK_HEADERS: header 1 has an invalid name"),
        ({"headers": '{"X": "", "é": ""}'}, "POLLER_WEBHOOK_HEADERS: header 2 has an invalid name"),
        ({"headers": '{"Host": "canary"}'}, "POLLER_WEBHOOK_HEADERS: header 1 has a reserved"),
        (
            {"headers": '{"webhook-id": "canary"}'},
            "POLLER_WEBHOOK_HEADERS: header 1 has a reserved",
        ),
        (
            {"headers": '{"ce-id": "canary"}'},
            "POLLER_WEBHOOK_HEADERS: header 1 has a reserved",
        ),
        (
            {"headers": '{"x-hub-signature-256": "canary"}'},
            "POLLER_WEBHOOK_HEADERS: header 1 has a reserved",
        ),
        ({"hub_signature": "canary"}, "POLLER_WEBHOOK_HUB_SIGNATURE: must be on or off"),
        ({"hub_signature": "on"}, "POLLER_WEBHOOK_HUB_SIGNATURE: needs the secret of this webhook"),
        ({"hub_signature": "on", "secret": "canary"}, "POLLER_WEBHOOK_SECRET: each secret must"),
        ({"headers": '{"X": "canary\\n"}'}, "POLLER_WEBHOOK_HEADERS: the value of header 1 is not"),
        ({"headers": '{"X": "canaré"}'}, "POLLER_WEBHOOK_HEADERS: the value of header 1 is not"),
    ],
)
def test_bad_settings(variables: dict[str, str], words: str):
    """A bad setting is refused with its variable and the rule, and without its value."""
    url = {} if words.endswith("required") else {"url": "https://a.example/canary"}
    with pytest.raises(ConfigError) as caught:
        settings(**url | variables)

    (problem,) = caught.value.problems
    assert problem.startswith(words)
    assert "canar" not in problem


def test_settings_hide_their_secrets():
    """Settings that are printed show neither URL, nor secret, nor headers."""
    shown = settings(url="https://a.example/canary", secret=NEW, headers='{"X": "canary"}')

    assert "canary" not in repr(shown) + str(shown)
    assert NEW not in repr(shown) + str(shown)


@pytest.mark.parametrize(
    ("variables", "is_told"),
    [
        ({}, True),
        ({"format": "cloudevents"}, True),
        ({"format": "slack"}, False),
        ({"secret": NEW}, False),
    ],
)
async def test_what_is_sent_unsigned_is_told(variables: dict[str, str], is_told: bool):
    """A webhook without a secret is warned of, unless nobody there could verify anything."""
    live = Reloadable(settings(url="https://h.example/x", **variables))
    with capture_logs() as lines:
        async with open_sink(live, OutboundSettings()):
            pass

    assert [it["event"] for it in lines] == ["webhook.unsigned"] * is_told
