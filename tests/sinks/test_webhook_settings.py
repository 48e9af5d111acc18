"""The settings of a webhook sink."""

import base64

import pytest

from poller.core.errors import ConfigError
from poller.sinks.webhook import KIND, signing_keys
from tests.support.webhook_sinks import NEW, OLD, settings


def test_signing_keys_of_one_and_two_secrets():
    """One secret or two are decoded to bytes."""
    assert signing_keys(OLD) == [b"old secret, twenty-four+"]
    assert len(signing_keys(f" {NEW}\n{OLD} ")) == 2


@pytest.mark.parametrize("size", [24, 64])
def test_signing_keys_may_have_24_to_64_bytes(size: int):
    """A secret may have 24 to 64 bytes."""
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
def test_signing_keys_rejects_invalid_secrets(secrets: str, rule: str):
    """An invalid secret is rejected with the rule."""
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
        ({"format": "canary"}, "POLLER_WEBHOOK_FORMAT: must be standard, cloudevents"),
        ({"timeout": "canary"}, "POLLER_WEBHOOK_TIMEOUT: must be a duration"),
        ({"timeout": "0"}, "POLLER_WEBHOOK_TIMEOUT: must be greater than 0"),
        ({"timeout": "61s"}, "POLLER_WEBHOOK_TIMEOUT: must be 1m or less"),
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
        ({"receipts": "canary"}, "POLLER_WEBHOOK_RECEIPTS: must be statuses from 200 to 599"),
        ({"receipts": "302-301"}, "POLLER_WEBHOOK_RECEIPTS: must be statuses from 200 to 599"),
        ({"receipts": "199"}, "POLLER_WEBHOOK_RECEIPTS: must be statuses from 200 to 599"),
        ({"receipts": "600"}, "POLLER_WEBHOOK_RECEIPTS: must be statuses from 200 to 599"),
        ({"receipts": ","}, "POLLER_WEBHOOK_RECEIPTS: must name at least one"),
        ({"origin": "https://canary"}, "POLLER_WEBHOOK_ORIGIN: must be a name such as"),
        ({"origin": "canary\r\nX: y"}, "POLLER_WEBHOOK_ORIGIN: must be a name such as"),
        ({"headers": '{"X": "canary\\n"}'}, "POLLER_WEBHOOK_HEADERS: the value of header 1 is not"),
        ({"headers": '{"X": "canaré"}'}, "POLLER_WEBHOOK_HEADERS: the value of header 1 is not"),
    ],
)
def test_webhook_settings_rejects_invalid_values(variables: dict[str, str], words: str):
    """An invalid setting is rejected with its variable and the rule, and without its value."""
    url = {} if words.endswith("required") else {"url": "https://a.example/canary"}
    with pytest.raises(ConfigError) as caught:
        settings(**url | variables)

    (problem,) = caught.value.problems
    assert problem.startswith(words)
    assert "canar" not in problem


@pytest.mark.parametrize(
    ("text", "statuses"),
    [
        ("302", {302}),
        ("200-299,302", {*range(200, 300), 302}),
        ("302 303-303", {302, 303}),
        ('["302", "599"]', {302, 599}),
    ],
)
def test_webhook_settings_receipts(text: str, statuses: set[int]):
    """Statuses are listed one by one or as ranges with both ends."""
    assert settings(url="https://a.example", receipts=text).receipts == statuses
    assert settings(url="https://a.example").receipts == frozenset()


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_webhook_settings_with_two_authorizations(name: str):
    """A user in the URL and a header of the same meaning exclude each other."""
    headers = f'{{"{name}": "Bearer canary"}}'
    settings(url="https://a.example/x@y", headers=headers)
    with pytest.raises(ConfigError) as caught:
        settings(url="https://canary:canary@a.example", headers=headers)

    (problem,) = caught.value.problems
    assert problem == (
        "POLLER_WEBHOOK_HEADERS: must have no Authorization while the URL has a user; remove one"
    )


def test_webhook_settings_hide_secrets():
    """Printed settings show neither the URL, nor the secret, nor the headers."""
    shown = settings(url="https://a.example/canary", secret=NEW, headers='{"X": "canary"}')

    assert "canary" not in repr(shown) + str(shown)
    assert NEW not in repr(shown) + str(shown)


SLACK = "https://hooks.slack.com/services/T0/B0/x"


@pytest.mark.parametrize(
    ("variables", "fields"),
    [
        ({}, ["secret"]),
        ({"format": "cloudevents"}, ["secret"]),
        ({"secret": NEW}, []),
        ({"url": SLACK, "secret": NEW}, ["url"]),
        ({"url": SLACK}, ["url"]),
        ({"url": "https://hooks.slack.com/triggers/T0/x", "secret": NEW}, []),
    ],
)
def test_webhook_settings_warnings(variables: dict[str, str], fields: list[str]):
    """There is a warning about a missing secret, and about a URL that needs another format."""
    warnings = KIND.warnings(settings(**{"url": "https://h.example/x"} | variables))

    assert [*warnings] == fields
