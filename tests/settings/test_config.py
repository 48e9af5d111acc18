"""What a configuration says of itself."""

import pytest

from poller.config import describe, load
from poller.core.errors import ConfigError
from poller.core.events import DEFAULT_SINK_EVENTS, EVENT_TYPES
from tests.support.config_builders import CANARIES, KEY, SECRET, URL, WEBHOOK, load_with


def shown_of(config, variable):
    """Give what is shown of a variable."""
    return {it.variable: it.value for it in describe(config)}[variable]


def test_the_log_is_the_only_sink_by_default():
    """Without a webhook's URL only the log gets events."""
    assert [it.name for it in load_with().sinks] == ["log"]


def test_a_webhook_is_configured_by_its_url():
    """POLLER_WEBHOOK_URL is enough for a webhook beside the log."""
    assert [it.name for it in load_with(**WEBHOOK).sinks] == ["log", "webhook"]


def test_a_sink_takes_what_is_urgent():
    """A sink takes ends and trouble of jobs; one that people read takes the poller's own too."""
    log, webhook = load_with(**WEBHOOK).sinks

    assert webhook.events == DEFAULT_SINK_EVENTS
    assert log.events - DEFAULT_SINK_EVENTS == {
        it for it in EVENT_TYPES if it.startswith("poller.")
    }


def test_a_webhook_that_people_read_takes_what_the_log_takes():
    """In the format of Slack a webhook tells of the poller's own trouble too."""
    log, plain, slack = load_with(
        **WEBHOOK,
        POLLER_SINKS="log,webhook,webhook.slack",
        POLLER_WEBHOOK_SLACK_URL=URL,
        POLLER_WEBHOOK_SLACK_FORMAT="slack",
    ).sinks

    assert plain.events == DEFAULT_SINK_EVENTS
    assert slack.events == log.events


def test_the_format_of_a_webhook_is_shown():
    """Whoever looks at the settings sees what is sent."""
    config = load_with(**WEBHOOK, POLLER_WEBHOOK_FORMAT="cloudevents")

    assert shown_of(config, "POLLER_WEBHOOK_FORMAT") == "cloudevents"


@pytest.mark.parametrize(
    ("text", "events"),
    [("*", EVENT_TYPES), ("job.started job.found", {"job.started", "job.found"})],
)
def test_a_sink_takes_what_it_is_told(text, events):
    """POLLER_<SINK>_EVENTS names types, or all of them by a star."""
    assert load_with(POLLER_LOG_EVENTS=text).sinks[0].events == events


def test_secrets_are_masked():
    """A key is shown as stars, a secret URL as its scheme and host."""
    config = load_with(**WEBHOOK, POLLER_PROXY="http://me:5up3r@proxy:3128")

    assert shown_of(config, "SUTRO_API_KEY") == "****"
    assert shown_of(config, "POLLER_WEBHOOK_SECRET") == "****"
    assert shown_of(config, "POLLER_WEBHOOK_URL") == "https://hooks.example.com/..."
    assert shown_of(config, "POLLER_PROXY") == "http://proxy:3128/..."
    assert not [it for it in CANARIES if it in str(describe(config))]


def test_a_setting_without_a_value_is_shown_as_nothing():
    """What is not set is shown empty, a secret too."""
    assert shown_of(load_with(), "POLLER_PROXY") == ""


def test_the_repr_of_a_configuration_shows_no_secret():
    """A configuration in a traceback or a debugger gives nothing away."""
    config = load_with(**WEBHOOK, HTTPS_PROXY="http://me:5up3r@proxy")

    assert not [it for it in CANARIES if it in repr(config)]


def test_every_secret_is_known_for_redaction():
    """The key, secrets, URLs, their paths, header values and proxies are listed."""
    config = load_with(
        POLLER_WEBHOOK_URL=URL,
        POLLER_WEBHOOK_SECRET=f"{SECRET} {SECRET[:-1]}z",
        POLLER_WEBHOOK_HEADERS='{"X-Token": "t0k3n"}',
        POLLER_PROXY="http://me:pw@proxy",
        HTTPS_PROXY="http://you:pw@proxy",
        HTTP_PROXY="http://plain",
    )

    assert set(config.secrets()) >= {
        KEY,
        URL,
        "/services/T0/c4n4ry",
        SECRET,
        "t0k3n",
        "http://me:pw@proxy",
        "http://you:pw@proxy",
    }
    assert "http://plain" not in config.secrets()


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, "https://host", None),
        ({"POLLER_PROXY": "http://own"}, "https://host", "http://own"),
        ({"POLLER_PROXY": "http://own", "HTTPS_PROXY": "http://p"}, "https://host", "http://own"),
        ({"HTTPS_PROXY": "http://p"}, "https://host", "http://p"),
        ({"HTTPS_PROXY": "http://p"}, "http://host", None),
        ({"HTTP_PROXY": "http://p", "http_proxy": "http://q"}, "http://host", "http://q"),
        ({"ALL_PROXY": "http://p"}, "https://host", "http://p"),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "host"}, "https://host", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": ".example.com"}, "https://a.example.com", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, "https://host", None),
        ({"POLLER_PROXY": "http://own", "NO_PROXY": "host"}, "https://host", None),
        ({"POLLER_PROXY": "http://own"}, "http://127.0.0.1", None),
        ({"POLLER_PROXY": "http://own"}, "http://localhost", None),
    ],
)
def test_a_url_has_a_proxy(environ, url, proxy):
    """POLLER_PROXY, else the usual variables; NO_PROXY and this machine are exempt."""
    assert load_with(**environ).proxy_for(*url.split("://")) == proxy


def test_who_only_asks_needs_only_a_key():
    """Without deliveries neither a home for the store nor a sink that works is needed."""
    broken = {"POLLER_WEBHOOK_URL": "junk", "POLLER_WEBHOOK_SECRET_FILE": "/nowhere"}

    config = load({"SUTRO_API_KEY": KEY} | broken, for_run=False, is_delivering=False)

    assert config.key().get_secret_value() == KEY
    assert config.reload_secrets() == ()


def test_who_only_asks_is_told_of_misspelt_settings():
    """A setting that nobody reads is complained about all the same."""
    with pytest.raises(ConfigError, match="did you mean POLLER_MIN_INTERVAL"):
        load({"SUTRO_API_KEY": KEY, "POLLER_MIN_INTERVL": "3"}, for_run=False, is_delivering=False)
