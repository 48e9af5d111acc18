"""The discord sink: messages with an embed, and pauses in the body of a 429."""

import json
import re
from typing import Final

import pytest
from jsonschema import Draft202012Validator
from pydantic import SecretStr

from poller.core.errors import DeliveryError
from poller.core.retry import RETRY_AFTER_CAP
from poller.sinks.discord import layout, with_version
from poller.sinks.testing import sample_delivery
from poller.sinks.text import Message
from tests.sinks.http_kinds import opened
from tests.sinks.message_samples import ALL_MESSAGES, LARGEST_MESSAGES, message
from tests.support.builders import GOLDEN
from tests.support.http_peers import peer, responds

MAX_EMBED: Final = 6_000
"""Characters of all texts of an embed."""

FIELD: Final = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 256},
        "value": {"type": "string", "minLength": 1, "maxLength": 1_024},
        "inline": {"type": "boolean"},
    },
    "required": ["name", "value"],
    "additionalProperties": False,
}
EMBED: Final = {
    "type": "object",
    "properties": {
        "color": {"type": "integer", "minimum": 0, "maximum": 0xFFFFFF},
        "description": {"type": "string", "minLength": 1, "maxLength": 4_096},
        "fields": {"type": "array", "items": FIELD, "minItems": 1, "maxItems": 25},
    },
    "additionalProperties": False,
}
CONTENT: Final = {
    "type": "object",
    "properties": {
        "content": {"type": "string", "minLength": 1, "maxLength": 2_000},
        "embeds": {"type": "array", "items": EMBED, "maxItems": 10},
        "allowed_mentions": {"const": {"parse": []}},
    },
    "required": ["content", "allowed_mentions"],
    "additionalProperties": False,
}
"""What a message uses of Discord's OpenAPI document for executing a webhook, and nothing else."""


def shown(markdown: str) -> str:
    """Return a text as Discord shows it, if no character of it that is left is markup."""
    assert not re.search(r"(?<!\\)[*_~`|\[\]<@]", re.sub(r"\\\\", "", markdown))
    return re.sub(r"\\([^0-9A-Za-z\s])", r"\1", markdown)


def test_message_has_fixed_bytes():
    """The message is written down: a retry may be sent by a later version."""
    text = json.dumps(layout(message()), ensure_ascii=False, indent=2)

    assert text + "\n" == (GOLDEN / "job-12345.discord.json").read_text("utf-8")


@pytest.mark.parametrize("found", [*ALL_MESSAGES, *LARGEST_MESSAGES])
def test_message_is_within_every_limit(found: Message):
    """Discord takes every message: it rejects one that is too long, and does not cut it."""
    content = layout(found)

    Draft202012Validator(CONTENT).validate(content)
    for embed in content.get("embeds", ()):
        fields = [text for field in embed.get("fields", ()) for text in field.values()]
        characters = [embed.get("description", ""), *filter(lambda text: text is not True, fields)]
        assert sum(map(len, characters)) <= MAX_EMBED


@pytest.mark.parametrize(
    "name",
    [
        "<@80351110224678912> @everyone @here <@&1> <#1> <t:1618953630> <:x:1> </x:1>",
        "*a* **b** _c_ __d__ ~~e~~ `f` ```g``` ||h|| [i](http://a.example)",
        r"\*a\* \\ \_",
        "snake_case_name",
    ],
)
def test_name_is_shown_as_it_is(name: str):
    """A name mentions nobody and is no markup, wherever it stands."""
    content = layout(message(name=name, model=name, failure_reason={"message": name}))
    (embed,) = content["embeds"]

    assert shown(content["content"]).startswith(f"❌ {name} (job-12345)")
    assert shown(embed["description"].splitlines()[0]) == name
    assert shown(embed["fields"][-1]["value"]) == name


@pytest.mark.parametrize(
    ("reason", "escaped"),
    [
        ("# big", r"\# big"),
        ("- item", r"\- item"),
        ("-# small", r"\-# small"),
        ("> quote", r"\> quote"),
        ("1. item", r"1\. item"),
        ("see https://a.example/x", r"see https\://a.example/x"),
        ("took 3.5 s - no # > or +", "took 3.5 s - no # > or +"),
    ],
)
def test_reason_begins_no_block_and_links_nowhere(reason: str, escaped: str):
    """A reason is no heading, list or quote, and no link. Other texts have no backslash."""
    found = layout(message(url=None, failure_reason={"message": reason}))

    assert found["embeds"][0]["description"] == escaped


def test_message_without_details_has_no_embed():
    """What is said in one line has one line."""
    assert "embeds" not in layout(message("job.started", None))


@pytest.mark.parametrize(
    ("url", "used"),
    [
        (
            "https://discord.com/api/webhooks/1/token",
            "https://discord.com/api/v10/webhooks/1/token?wait=true",
        ),
        (
            "https://ptb.discord.com/api/v6/webhooks/1/token?thread_id=2",
            "https://ptb.discord.com/api/v10/webhooks/1/token?thread_id=2&wait=true",
        ),
        (
            "https://discordapp.com/api/v9/webhooks/1/token",
            "https://discordapp.com/api/v10/webhooks/1/token?wait=true",
        ),
        ("https://discord.example/api/webhooks/1/token",) * 2,
        ("https://a.example/?https://discord.com/api/webhooks/1/token",) * 2,
    ],
)
def test_url_of_discord_has_the_version(url: str, used: str):
    """Discord's URLs get the version of the API whose pauses are seconds; others stay as is."""
    assert with_version(SecretStr(url)).get_secret_value() == used


async def rejection(body: bytes, **headers: str) -> DeliveryError:
    """Return the error of a 429 with this body."""
    async with (
        peer(responds(429, body, **headers)) as receiver,
        opened("discord", receiver) as sink,
    ):
        with pytest.raises(DeliveryError) as found:
            await sink.send(sample_delivery())
    return found.value


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (b'{"message": "Slow down", "retry_after": 64.57, "global": false}', 64.57),
        (b'{"retry_after": 0}', 0.0),
        (b'{"retry_after": 1e300}', RETRY_AFTER_CAP),
        (b'{"retry_after": -1}', 65.0),
        (b'{"retry_after": NaN}', 65.0),
        (b'{"retry_after": "1"}', 65.0),
        (b'{"retry_after": null}', 65.0),
        (b"[1]", 65.0),
        (b"<html>error code: 1015</html>", 65.0),
    ],
)
async def test_pause_is_that_of_the_body(body: bytes, seconds: float):
    """The pause of the body is exact; Retry-After is used where the body has none."""
    error = await rejection(body, retry_after="65")

    assert error.retry_after == seconds
    assert (error.is_sink_fault, error.is_permanent) == (True, False)


@pytest.mark.anyio
async def test_rate_limit_is_reported_in_discords_words():
    """The reason has the message of the body."""
    error = await rejection(b'{"message": "You are being rate limited.", "retry_after": 1}')

    assert str(error) == "the receiver returned 429: You are being rate limited."


@pytest.mark.anyio
async def test_message_that_was_saved_is_delivered():
    """With `wait=true` Discord responds with 200 and the message."""
    async with peer(responds(200, b'{"id": "1"}')) as receiver, opened("discord", receiver) as sink:
        await sink.send(sample_delivery())

    assert len(receiver.requests) == 1
