"""The configuration: sinks, event types, display, secrets, proxies."""

import math
from decimal import Decimal
from urllib.parse import urlsplit

import pytest

from poller.config import load
from poller.core.errors import ConfigError
from poller.core.events import DEFAULT_SINK_EVENTS, EVENT_TYPES
from poller.core.outbox import DAY, Retention
from poller.settings.secrets import mask
from poller.sinks import BUILT_IN, load_kind
from tests.support.config_builders import CANARIES, KEY, SECRET, URL, WEBHOOK, load_with

EXEMPT = [
    ("10.0.0.0/8", "https://10.1.2.3"),
    ("fd00::/8", "https://[fd00::1]"),
    ("10.1.2.3", "https://10.1.2.3:8443"),
    ("10.1.2.3:8443", "https://10.1.2.3:8443"),
    ("[fd00::1]:443", "https://[fd00::1]"),
    ("fd00::1", "https://[fd00:0::1]"),
    ("host:8443", "https://host:8443"),
    ("Host", "https://host"),
    ("host", "https://host."),
    ("example.com", "https://a.example.com"),
    (".example.com", "https://example.com"),
    ("*.example.com", "https://a.example.com"),
    ("my_service", "https://my_service:8443"),
]
NOT_EXEMPT = [
    ("[a]", "https://a"),
    ("10.0.0.0/8", "https://11.1.2.3"),
    ("10.0.0.0/8", "https://a10.example"),
    ("10.1.2.3:8443", "https://10.1.2.3"),
    ("2.3", "https://10.1.2.3"),
    ("host:8443", "https://host"),
    ("example.com", "https://badexample.com"),
    ("<local>,10.*,169.254/16,://x,[::1", "https://10.1.2.3"),
]


def shown_of(config, variable):
    """Return the displayed value of a variable."""
    return mask(config.sourced[variable])


def test_log_is_the_only_default_sink():
    """Without a webhook URL only the log receives events."""
    assert [sink.name for sink in load_with().sinks] == ["log"]


def test_webhook_url_adds_the_webhook():
    """POLLER_WEBHOOK_URL is enough to add a webhook to the log."""
    assert [sink.name for sink in load_with(**WEBHOOK).sinks] == ["log", "webhook"]


def test_budgets_are_those_that_are_set():
    """Each amount is a budget, with the same models and thresholds in order; by default none is."""
    config = load_with(
        POLLER_BUDGET_DAILY="$99.50",
        POLLER_BUDGET_MONTHLY="2000",
        POLLER_BUDGET_MODELS="llama*,!*test*",
        POLLER_BUDGET_THRESHOLDS="100%, 12.5",
    )

    assert load_with().settings.budgets == ()
    assert [(it.kind.value, it.limit) for it in config.settings.budgets] == [
        ("daily", Decimal("99.50")),
        ("monthly", Decimal(2000)),
    ]
    assert {(it.models, it.thresholds) for it in config.settings.budgets} == {
        (("llama*", "!*test*"), (Decimal("12.5"), Decimal(100)))
    }


@pytest.mark.parametrize(("text", "factor"), [("1.5", 1.5), ("off", None), ("OFF", None)])
def test_costs_are_compared_by_a_factor_or_not(text: str, factor: float | None):
    """The factor of a cost over its estimate can be chosen, or switched off."""
    config = load_with(POLLER_COST_OVER_ESTIMATE=text)

    assert config.lifecycle_policy.cost_over_estimate == factor
    assert load_with().lifecycle_policy.cost_over_estimate == 1.2


@pytest.mark.parametrize(
    ("text", "limit"), [("auto", None), ("AUTO", None), ("off", math.inf), ("1h30m", 5_400.0)]
)
def test_overdue_is_a_duration_auto_or_off(text: str, limit: float | None):
    """Each stage has a limit of its own, by default by what is usual."""
    policy = load_with(POLLER_OVERDUE_RUNNING=text).lifecycle_policy.overdue

    assert (policy.queued, policy.running) == (None, limit)


@pytest.mark.parametrize("text", ["soon", "0", "-5m"])
def test_overdue_rejects_what_is_no_limit(text: str):
    """Another word, and no time at all, is a problem of that setting."""
    with pytest.raises(ConfigError, match="POLLER_OVERDUE_QUEUED: must be"):
        load_with(POLLER_OVERDUE_QUEUED=text)


def test_default_event_types_of_sinks():
    """A sink gets ends by default; one for people also the daemon, costs and overdue jobs."""
    log, webhook = load_with(**WEBHOOK).sinks

    assert webhook.route.types == DEFAULT_SINK_EVENTS
    of_daemon = {name for name in EVENT_TYPES if not name.startswith("job.")}
    of_jobs = {"job.cost_over_estimate", "job.overdue"}
    assert log.route.types - DEFAULT_SINK_EVENTS == of_daemon | of_jobs


def test_default_sinks_are_those_whose_required_settings_are_set():
    """The URL of a sink is enough to have it, and people also get the daemon's own events."""
    log, webhook, slack = load_with(**WEBHOOK, POLLER_SLACK_URL=URL).sinks

    assert [log.name, webhook.name, slack.name] == ["log", "webhook", "slack"]
    assert webhook.route.types == DEFAULT_SINK_EVENTS
    assert slack.route.types == log.route.types


@pytest.mark.parametrize("kind", BUILT_IN)
def test_required_settings_are_those_without_a_default(kind: str):
    """What puts a kind into the default of POLLER_SINKS is what its settings demand."""
    fields = load_kind(kind).settings.model_fields

    required = [name.upper() for name, info in fields.items() if info.is_required()]
    assert list(BUILT_IN[kind]) == required


def test_describe_shows_the_format_of_a_webhook():
    """The list of settings contains those of sinks."""
    config = load_with(**WEBHOOK, POLLER_WEBHOOK_FORMAT="cloudevents")

    assert shown_of(config, "POLLER_WEBHOOK_FORMAT") == "cloudevents"


@pytest.mark.parametrize(
    ("text", "events"),
    [("*", EVENT_TYPES), ("job.started job.found", {"job.started", "job.found"})],
)
def test_event_types_of_a_sink_can_be_set(text, events):
    """POLLER_<SINK>_EVENTS lists types, or is * for all of them."""
    assert load_with(POLLER_LOG_EVENTS=text).sinks[0].route.types == events


def test_describe_masks_secrets():
    """A key is displayed as stars, a secret URL as its scheme and host."""
    config = load_with(**WEBHOOK, POLLER_PROXY="http://me:5up3r@proxy:3128")

    assert shown_of(config, "SUTRO_API_KEY") == "****"
    assert shown_of(config, "POLLER_WEBHOOK_SECRET") == "****"
    assert shown_of(config, "POLLER_WEBHOOK_URL") == "https://hooks.example.com/..."
    assert shown_of(config, "POLLER_PROXY") == "http://proxy:3128/..."
    shown = str([mask(value) for value in config.sourced.values()])
    assert not [canary for canary in CANARIES if canary in shown]


def test_describe_shows_an_unset_setting_as_empty():
    """A setting without a value is empty, a secret too."""
    assert shown_of(load_with(), "POLLER_PROXY") == ""


def test_repr_of_a_configuration_contains_no_secret():
    """A configuration in a traceback or a debugger reveals nothing."""
    config = load_with(**WEBHOOK, HTTPS_PROXY="http://me:5up3r@proxy")

    assert not [canary for canary in CANARIES if canary in repr(config)]


def test_heartbeat_url_is_a_secret():
    """Its path is neither displayed nor logged; an http URL of another host has to be allowed."""
    url = "http://kuma.lan:3001/api/push/c4n4ry?status=up"
    config = load_with(POLLER_HEARTBEAT_URL=url, POLLER_ALLOW_HTTP="on")

    assert shown_of(config, "POLLER_HEARTBEAT_URL") == "http://kuma.lan:3001/..."
    assert set(config.secrets()) >= {url, "/api/push/c4n4ry?status=up"}
    assert "c4n4ry" not in repr(config)


def test_secrets_to_redact_are_complete():
    """They are the key, secrets, URLs, their paths, header values and proxies."""
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


def test_path_of_a_url_is_redacted_without_its_query():
    """A service may send back the path without parameters, such as those added to Discord's URL."""
    config = load_with(POLLER_DISCORD_URL="https://discord.com/api/webhooks/1/c4n4ry")

    assert {
        "/api/v10/webhooks/1/c4n4ry?wait=true",
        "/api/v10/webhooks/1/c4n4ry",
    } <= set(config.secrets())


def test_retention_is_configurable():
    """The defaults are those of the store."""
    config = load_with(
        POLLER_RETENTION_DELIVERED="1d", POLLER_RETENTION_DEAD="2d", POLLER_RETENTION_JOBS="8d"
    )

    assert load_with().retention == Retention()
    assert config.retention == Retention(delivered=DAY, dead=2 * DAY, jobs=8 * DAY)


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
        ({"POLLER_PROXY": "own:3128"}, "https://host", "http://own:3128"),
        ({"HTTPS_PROXY": "p:3128"}, "https://host", "http://p:3128"),
        ({"https_proxy": "10.0.0.1:3128"}, "https://host", "http://10.0.0.1:3128"),
        ({"https_proxy": "", "HTTPS_PROXY": "p:3128"}, "https://host", None),
        ({"all_proxy": "p:3128"}, "http://host", "http://p:3128"),
        (
            {"ALL_PROXY": "socks5://s", "HTTPS_PROXY": "p", "http_proxy": "p"},
            "http://h",
            "http://p",
        ),
        ({"ALL_PROXY": "socks5://s", "POLLER_PROXY": "http://own"}, "https://h", "http://own"),
        ({"ALL_PROXY": "socks5://s", "NO_PROXY": "*"}, "https://h", None),
        *(
            ({"HTTPS_PROXY": "http://p", "NO_PROXY": f"a.example, {entry},b.example"}, url, None)
            for entry, url in EXEMPT
        ),
        *(
            ({"HTTPS_PROXY": "http://p", "no_proxy": entry}, url, "http://p")
            for entry, url in NOT_EXEMPT
        ),
    ],
)
def test_proxy_for_a_url(environ, url, proxy):
    """It is POLLER_PROXY, else HTTPS_PROXY and so on; NO_PROXY and loopback are exempt."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}[parts.scheme]

    assert load_with(**environ).proxy_for(parts.scheme, parts.hostname or "", port) == proxy


def test_describe_shows_proxies_without_credentials():
    """The variables for proxies that apply are shown, and those that do not apply are not."""
    config = load_with(https_proxy="me:5up3r@p:3128", ALL_PROXY="http://all", NO_PROXY="a, b")

    assert shown_of(config, "https_proxy") == "http://p:3128/..."
    assert shown_of(config, "ALL_PROXY") == "http://all/..."  # for http
    assert shown_of(config, "NO_PROXY") == "a, b"
    assert "HTTPS_PROXY" not in config.sourced
    assert "ALL_PROXY" not in load_with(POLLER_PROXY="p", ALL_PROXY="socks5://s").sourced


def test_errors_of_sinks_are_ignored_without_delivery():
    """Without deliveries neither a folder for the store nor a valid sink is required."""
    broken = {"POLLER_WEBHOOK_URL": "junk", "POLLER_WEBHOOK_SECRET_FILE": "/nowhere"}

    config = load({"SUTRO_API_KEY": KEY} | broken, for_run=False, is_delivering=False)

    assert config.key().get_secret_value() == KEY
    assert config.reload_secrets() == ()


def test_misspelt_settings_are_errors_without_delivery():
    """An unknown variable is an error all the same."""
    with pytest.raises(ConfigError, match="did you mean POLLER_MIN_INTERVAL"):
        load({"SUTRO_API_KEY": KEY, "POLLER_MIN_INTERVL": "3"}, for_run=False, is_delivering=False)


@pytest.mark.parametrize(
    ("url", "deployment"),
    [
        ("https://api.sutro.sh", "api.sutro.sh"),
        ("https://API.Sutro.sh:443/v1/", "api.sutro.sh"),
        ("https://api.sutro.sh:8443", "api.sutro.sh:8443"),
        ("HTTP://127.0.0.1:80", "127.0.0.1"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://[::80]", "[::80]"),
    ],
)
def test_deployment_is_the_same_however_its_address_is_written(url: str, deployment: str):
    """A deployment, to which all records belong, is known by its host and port alone."""
    config = load_with(SUTRO_API_URL=url, POLLER_ALLOW_HTTP="on")

    assert config.origin.deployment == deployment
