"""The errors of an invalid configuration."""

import re
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from poller import sinks
from poller.config import load
from poller.core.errors import ConfigError
from tests.support.config_builders import (
    CANARIES,
    GOOD,
    KEY,
    SECRET,
    URL,
    WEBHOOK,
    load_errors,
    write_file,
)

LEAKY = "c4n4ry and 5up3r"
INSTALLED = ", ".join(sinks.BUILT_IN)

QUOTED = {
    "SUTRO_API_KEY": KEY,
    "SUTRO_API_URL": "https://api.sutro.sh",
    "POLLER_DISCOVER": "on",
    "POLLER_DISCOVER_NAME": "nightly *",
    "POLLER_JOB_IDS": "job-1",
    "POLLER_JOBS_FILE": "/c4n4ry",
    "POLLER_MAX_INTERVAL": "5m",
    "POLLER_WEBHOOK_URL": URL,
    "POLLER_LISTEN_TOKEN": "c4n4ry-c4n4ry-c4n4ry",
    "POLLER_SINKS": "log",
}
"""Valid values, as a reader that keeps the quotes around them passes them on."""

BAD = [
    ({"SUTRO_API_KEY": ""}, "SUTRO_API_KEY", "is required"),
    ({"SUTRO_API_KEY": KEY + "\nX-Evil: 1"}, "SUTRO_API_KEY", "one line of printable ASCII"),
    ({"SUTRO_API_KEY_FILE": "/nowhere/key"}, "SUTRO_API_KEY_FILE", "cannot read /nowhere/key"),
    ({"SUTRO_API_KEY_FILE": KEY}, "SUTRO_API_KEY_FILE", "must be the path of a file"),
    ({"SUTRO_API_URL": "ftp://api.sutro.sh"}, "SUTRO_API_URL", "must be a URL such as"),
    ({"SUTRO_API_URL": "https://"}, "SUTRO_API_URL", "must be a URL such as"),
    ({"SUTRO_API_URL": "https://api:none/5up3r"}, "SUTRO_API_URL", "must be a URL such as"),
    ({"SUTRO_API_URL": "https://[5up3r"}, "SUTRO_API_URL", "must be a URL such as"),
    ({"SUTRO_API_URL": "https://a b"}, "SUTRO_API_URL", "must be a URL such as"),
    ({"SUTRO_API_URL": "https://me:5up3r@host"}, "SUTRO_API_URL", "no user, query or fragment"),
    ({"SUTRO_API_URL": "https://host/?k=5up3r"}, "SUTRO_API_URL", "no user, query or fragment"),
    ({"SUTRO_API_URL": "https://host/#5up3r"}, "SUTRO_API_URL", "no user, query or fragment"),
    ({"SUTRO_API_URL": "http://api.sutro.sh"}, "SUTRO_API_URL", "or set POLLER_ALLOW_HTTP=on"),
    ({"POLLER_HEARTBEAT_URL": "hc-ping.com/5up3r"}, "POLLER_HEARTBEAT_URL", "must be a URL such"),
    (
        {"POLLER_HEARTBEAT_URL": "http://kuma.example/api/push/5up3r"},
        "POLLER_HEARTBEAT_URL",
        "must be https, or set POLLER_ALLOW_HTTP=on",
    ),
    *(
        ({"POLLER_DAILY_REPORT": text}, "POLLER_DAILY_REPORT", "must be a time of day such as 08")
        for text in ("8", "8am", "08:00:00", "24:00", "08:60", "08.00", "-1:00", "0٨:00")
    ),
    ({"POLLER_HEARTBEAT_INTERVAL": "14s"}, "POLLER_HEARTBEAT_INTERVAL", "must be 15s or more"),
    ({"POLLER_ALLOW_HTTP": "perhaps"}, "POLLER_ALLOW_HTTP", "must be on or off"),
    (
        {"POLLER_CA_FILE": "/nowhere/ca.pem"},
        "POLLER_CA_FILE",
        "must be a file of certificates in PEM: No such",
    ),
    (
        {"POLLER_CA_FILE": "/dev/null"},
        "POLLER_CA_FILE",
        "must be a file of certificates in PEM: it contains none",
    ),
    ({"POLLER_PROXY": "socks5://me:5up3r@proxy"}, "POLLER_PROXY", "SOCKS proxies are not"),
    ({"POLLER_PROXY": "me:5up3r@a proxy"}, "POLLER_PROXY", "must be the URL of an http or https"),
    ({"ALL_PROXY": "socks://me:5up3r@proxy"}, "ALL_PROXY", "SOCKS proxies are not supported"),
    ({"https_proxy": "SOCKS5h://proxy"}, "https_proxy", "SOCKS proxies are not supported"),
    ({"HTTP_PROXY": "ftp://me:5up3r@proxy"}, "HTTP_PROXY", "must be the URL of an http or https"),
    ({"POLLER_JOB_IDS": ""}, "POLLER_JOB_IDS", "no jobs to watch"),
    ({"POLLER_JOB_IDS": ", ,"}, "POLLER_JOB_IDS", "must name at least one"),
    ({"POLLER_JOB_IDS": "job-1,.."}, "POLLER_JOB_IDS", "'..' is not valid: a job ID has"),
    ({"POLLER_JOB_IDS": '["job-1", 2]'}, "POLLER_JOB_IDS", "must be a list of texts"),
    ({"POLLER_JOB_IDS": '["job-1"'}, "POLLER_JOB_IDS", "must be a list of texts"),
    ({"POLLER_REQUEST_TIMEOUT": "soon"}, "POLLER_REQUEST_TIMEOUT", "must be a duration"),
    ({"POLLER_MIN_INTERVAL": "0s"}, "POLLER_MIN_INTERVAL", "must be greater than 0"),
    ({"POLLER_MIN_INTERVAL": "-2s"}, "POLLER_MIN_INTERVAL", "must be a duration"),
    ({"POLLER_MAX_INTERVAL": "1s"}, "POLLER_MAX_INTERVAL", "not be less than POLLER_MIN_INTERVAL"),
    ({"POLLER_INTERVAL_FACTOR": "fast"}, "POLLER_INTERVAL_FACTOR", "must be a number"),
    ({"POLLER_INTERVAL_FACTOR": "inf"}, "POLLER_INTERVAL_FACTOR", "must be a finite number"),
    ({"POLLER_REQUESTS_PER_MINUTE": "0"}, "POLLER_REQUESTS_PER_MINUTE", "must be greater than 0"),
    (
        {"POLLER_COST_OVER_ESTIMATE": "0.9"},
        "POLLER_COST_OVER_ESTIMATE",
        "must be greater than or equal to 1",
    ),
    ({"POLLER_COST_OVER_ESTIMATE": "20%"}, "POLLER_COST_OVER_ESTIMATE", "must be a number"),
    (
        {"POLLER_BUDGET_DAILY": "0"},
        "POLLER_BUDGET_DAILY",
        "must be an amount of US dollars above 0",
    ),
    ({"POLLER_BUDGET_MONTHLY": "1e3"}, "POLLER_BUDGET_MONTHLY", "must be an amount of US dollars"),
    ({"POLLER_BUDGET_THRESHOLDS": "0,50"}, "POLLER_BUDGET_THRESHOLDS", "must be percentages"),
    ({"POLLER_BUDGET_THRESHOLDS": "half"}, "POLLER_BUDGET_THRESHOLDS", "must be percentages"),
    (
        {"POLLER_BUDGET_MONTHLY": "5", "POLLER_RETENTION_JOBS": "30d"},
        "POLLER_RETENTION_JOBS",
        "must be 40d or more if POLLER_BUDGET_MONTHLY is set",
    ),
    ({"POLLER_CONCURRENCY": "257"}, "POLLER_CONCURRENCY", "must be less than or equal to 256"),
    ({"POLLER_CONCURRENCY": "1.5"}, "POLLER_CONCURRENCY", "must be a whole number"),
    ({"POLLER_LISTEN": "8377"}, "POLLER_LISTEN", "must be off, unix:/path"),
    ({"POLLER_LISTEN": "off", "POLLER_JOB_IDS": ""}, "POLLER_JOB_IDS", "no jobs to watch"),
    (
        {"POLLER_LISTEN_TOKEN": "c4n4ry"},
        "POLLER_LISTEN_TOKEN",
        "must be 16 or more characters",
    ),
    ({"POLLER_LISTEN_TOKEN": "c4n4ry " * 9}, "POLLER_LISTEN_TOKEN", "ASCII without spaces"),
    (
        {"POLLER_ALLOWED_HOSTS": "a.b,http://x"},
        "POLLER_ALLOWED_HOSTS",
        "'http://x' is not a host",
    ),
    (
        {"POLLER_EXIT_WHEN_DONE": "on", "POLLER_DISCOVER": "on"},
        "POLLER_DISCOVER",
        "cannot be combined with POLLER_EXIT_WHEN_DONE",
    ),
    (
        {"POLLER_EVENT_ID_NAMESPACE": "our team"},
        "POLLER_EVENT_ID_NAMESPACE",
        "must be 1 to 64",
    ),
    ({"POLLER_SINKS": "carrier_pigeon"}, "POLLER_SINKS", "unknown sink 'carrier_pigeon'"),
    (
        {"POLLER_SINKS": "carrier_pigeon", "POLLER_CARRIER_PIGEON_URL": URL},
        "POLLER_SINKS",
        "unknown sink 'carrier_pigeon'",
    ),
    ({"POLLER_SINKS": "Log"}, "POLLER_SINKS", "'Log' is not a sink name: use"),
    ({"POLLER_SINKS": "[1]"}, "POLLER_SINKS", "must be a list of texts"),
    ({"POLLER_SINKS": "webhook"}, "POLLER_WEBHOOK_URL", "is required"),
    ({"POLLER_LOG_EVENTS": "*,x"}, "POLLER_LOG_EVENTS", "event type; use * or some of budget.c"),
    ({"POLLER_LOG_EVENTS": "job.failed,suceeded"}, "POLLER_LOG_EVENTS", "mean job.succeeded?"),
    ({"POLLER_LOG_EVENTS": "failed"}, "POLLER_LOG_EVENTS", "'failed' is not an event type; did"),
    ({"POLLER_STORE": "postgresql://me:5up3r@db/x"}, "POLLER_STORE", "must be a path or memory:"),
    ({"POLLER_STORE": ":memory:"}, "POLLER_STORE", "must be a path or memory:"),
    ({"HOME": ""}, "POLLER_STORE", "is required"),
    ({"POLLER_RETRY_SCHEDULE": "5s,0s"}, "POLLER_RETRY_SCHEDULE", "must be greater than 0"),
    ({"POLLER_RETRY_SCHEDULE": "5s,25h"}, "POLLER_RETRY_SCHEDULE", "must be 1d or less"),
    ({"POLLER_RETENTION_DELIVERED": "1h"}, "POLLER_RETENTION_DELIVERED", "must be 1d or more"),
    ({"POLLER_RETENTION_JOBS": "6d"}, "POLLER_RETENTION_JOBS", "must be 7d or more"),
    ({"POLLER_DISCOVER_MAX_AGE": "999999d"}, "POLLER_DISCOVER_MAX_AGE", "must be 36500d or less"),
    ({"POLLER_SETTLE_TIMEOUT": "99999999h"}, "POLLER_SETTLE_TIMEOUT", "must be 36500d or less"),
    ({"POLLER_RETRY_SCHEDULE": "5s,soon"}, "POLLER_RETRY_SCHEDULE", "must be a duration"),
    ({"POLLER_LOG_LEVEL": "loud"}, "POLLER_LOG_LEVEL", "must be 'debug', 'info',"),
    ({"POLLER_LOG_FORMAT": "xml"}, "POLLER_LOG_FORMAT", "must be 'auto', 'json' or 'console'"),
    (
        {"POLLER_MIN_INTERVL": LEAKY},
        "POLLER_MIN_INTERVL",
        "did you mean POLLER_MIN_INTERVAL?",
    ),
    ({"SUTRO_API_KEYS": LEAKY}, "SUTRO_API_KEYS", "did you mean SUTRO_API_KEY?"),
    ({"POLLER_QUUX": LEAKY}, "POLLER_QUUX", "unknown variable; no setting"),
    ({"POLLER_LISTEN_PORT": "8377"}, "POLLER_LISTEN_PORT", "unknown variable"),
    ({"POLLER_WEBHOOK": URL}, "POLLER_WEBHOOK", "did you mean POLLER_WEBHOOK_URL?"),
    ({"SUTRO_KEY": KEY, "SUTRO_API_KEY": ""}, "SUTRO_KEY", "did you mean SUTRO_API_KEY?"),
    ({"SUTRO_APIKEY": KEY, "SUTRO_API_KEY": ""}, "SUTRO_APIKEY", "did you mean SUTRO_API_KEY?"),
    ({"SUTRO_URL": URL}, "SUTRO_URL", "did you mean SUTRO_API_URL?"),
    ({"POLLER_JOB_ID": "x", "POLLER_JOB_IDS": ""}, "POLLER_JOB_ID", "mean POLLER_JOB_IDS?"),
    ({"POLLER_DISCOVR": "on", "POLLER_JOB_IDS": ""}, "POLLER_DISCOVR", "mean POLLER_DISCOVER?"),
    (
        {"SUTRO_KEY_FILE": "/run/key", "SUTRO_API_KEY": ""},
        "SUTRO_KEY_FILE",
        "did you mean SUTRO_API_KEY_FILE?",
    ),
    (
        {"POLLER_SINK": "log,webhook.audit", "POLLER_WEBHOOK_AUDIT_URL": URL},
        "POLLER_SINK",
        "did you mean POLLER_SINKS?",
    ),
    (
        {"POLLER_SINKS": "log,webhok", "POLLER_WEBHOOK_URL": URL},
        "POLLER_SINKS",
        f"unknown sink 'webhok' (installed: {INSTALLED}); did you mean webhook?",
    ),
    (
        {"POLLER_SINKS": "log", "POLLER_WEBHOOK_URL": URL},
        "POLLER_WEBHOOK_URL",
        "no sink in POLLER_SINKS has this variable; set POLLER_SINKS=log,webhook",
    ),
    (
        {"POLLER_WEBHOOK_SLACK_URL": URL},
        "POLLER_WEBHOOK_SLACK_URL",
        "no sink in POLLER_SINKS has this variable; set POLLER_SINKS=log,webhook.slack",
    ),
    (
        WEBHOOK | {"POLLER_WEBHOOK_A_URL_FILE": "/run/url"},
        "POLLER_WEBHOOK_A_URL_FILE",
        "set POLLER_SINKS=log,webhook,webhook.a",
    ),
    (
        {"POLLER_WEBHOOK_SECRET": SECRET},
        "POLLER_WEBHOOK_SECRET",
        "has no effect without POLLER_WEBHOOK_URL",
    ),
    (
        {"POLLER_SINKS": "webhook", "POLLER_WEBHOK_URL": URL},
        "POLLER_WEBHOK_URL",
        "did you mean POLLER_WEBHOOK_URL?",
    ),
    (
        {"POLLER_WEBHOOK_URL": "http://hooks.example.com/c4n4ry"},
        "POLLER_WEBHOOK_URL",
        "must be https, or set POLLER_ALLOW_HTTP=on",
    ),
    *(
        ({variable: f"{quote}{text}{quote}"}, variable, f"begins and ends with a quote ({quote})")
        for variable, text in QUOTED.items()
        for quote in ("'", '"')
    ),
    ({"SUTRO_API_KEY_FILE": '"/run/key"'}, "SUTRO_API_KEY_FILE", "begins and ends with a quote"),
    ({"POLLER_STORE": '"/x/state.db"  # here'}, "POLLER_STORE", "begins and ends with a quote"),
    ({"POLLER_DISCOVER_NAME": "\u201cx *\u201d"}, "POLLER_DISCOVER_NAME", "with a quote (\u201c)"),
    ({"HTTPS_PROXY": '"http://me:5up3r@proxy"'}, "HTTPS_PROXY", "begins and ends with a quote"),
    ({"no_proxy": "'a,b'"}, "no_proxy", "begins and ends with a quote"),
    ({"POLLER_PROXY": '""'}, "POLLER_PROXY", "begins and ends with a quote"),
]


@pytest.mark.parametrize(("changes", "variable", "rule"), BAD)
def test_error_names_the_variable_and_the_rule(changes, variable, rule):
    """An error is one line with the variable and the rule, without any secret."""
    problems = load_errors(**changes)

    assert len(problems) == 1
    assert problems[0].startswith(f"{variable}: ")
    assert rule in problems[0]
    assert "\n" not in problems[0]
    assert not [canary for canary in CANARIES if canary in problems[0]]


@pytest.mark.parametrize(
    ("sink_names", "problem"),
    [
        (
            "log",
            (
                "POLLER_PAGER_URL: no sink in POLLER_SINKS has this variable;"
                " set POLLER_SINKS=log,pager"
            ),
        ),
        (
            "log,pagr",
            (
                f"POLLER_SINKS: unknown sink 'pagr' (installed: {INSTALLED}, pager);"
                " did you mean pager?"
            ),
        ),
    ],
)
def test_variable_of_an_installed_sink_is_one_error(
    monkeypatch: pytest.MonkeyPatch, sink_names: str, problem: str
):
    """A sink of a package that is not configured, or misspelt, is named, and it alone."""
    pager = EntryPoint("pager", "no_such_module:KIND", sinks.ENTRY_POINT_GROUP)
    monkeypatch.setattr(
        sinks, "entry_points", lambda *, name="pager", **_group: [pager] * (name == "pager")
    )

    assert load_errors(POLLER_SINKS=sink_names, POLLER_PAGER_URL=URL) == (problem,)


def test_all_errors_are_reported_at_once():
    """Errors of settings, sinks, files and misspelt names are reported together."""
    problems = load_errors(
        SUTRO_API_KEY_FILE="/nowhere",
        POLLER_CONCURRENCY="0",
        POLLER_LOG_LEVEL="loud",
        POLLER_SINKS="log,pigeon,webhook",
        POLLER_LOG_EVENTS="job.done",
        POLLER_WEBHOK_URL=URL,
        POLLER_JOB_IDS="",
    )

    assert [line.partition(":")[0] for line in problems] == [
        "SUTRO_API_KEY_FILE",
        "POLLER_CONCURRENCY",
        "POLLER_LOG_LEVEL",
        "POLLER_LOG_EVENTS",
        "POLLER_SINKS",
        "POLLER_WEBHOK_URL",
        "POLLER_JOB_IDS",
    ]


def test_unreadable_required_secret_is_one_error(tmp_path: Path):
    """A required secret whose file is empty is not reported as missing as well."""
    path = write_file(tmp_path / "url", "\n")

    problems = load_errors(POLLER_SINKS="webhook", POLLER_WEBHOOK_URL_FILE=path)

    assert problems == (f"POLLER_WEBHOOK_URL_FILE: {path} is empty",)


def test_secret_file_must_be_utf8(tmp_path: Path):
    """A secret file that is not UTF-8 is named, without its content."""
    path = tmp_path / "key"
    path.write_bytes(b"5up3r\xff")

    problems = load_errors(SUTRO_API_KEY_FILE=str(path))

    assert problems == (f"SUTRO_API_KEY_FILE: cannot read {path}: it is not UTF-8",)


def test_missing_env_file_is_one_error(tmp_path: Path):
    """Without the env file nothing else is checked."""
    path = tmp_path / "none.env"

    problems = load_errors(env_file=path, POLLER_CONCURRENCY="0")

    assert problems == (f"--env-file: cannot read {path}: No such file or directory",)


def test_misspelt_name_in_the_env_file_is_an_error(tmp_path: Path):
    """Names in the env file are checked like those in the environment."""
    path = Path(write_file(tmp_path / "env", "POLLER_CONCURENCY=3\n"))

    problems = load_errors(env_file=path)

    assert len(problems) == 1
    assert problems[0].endswith("did you mean POLLER_CONCURRENCY?")


def test_empty_variable_counts_as_not_set():
    """An empty variable is ignored, also if its name is unknown."""
    config = load(GOOD | {"POLLER_WEBHOOK_URL": "", "POLLER_QUUX": " "})

    assert [sink.name for sink in config.sinks] == ["log"]


LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,12}[a-z0-9])?", fullmatch=True)


@given(
    service=st.sampled_from(["poller-{}", "sutro-{}", "sutro-api-{}"]),
    label=LABELS,
    port_name=LABELS,
    port=st.integers(1, 65_535),
    protocol=st.sampled_from(["tcp", "udp", "sctp"]),
)
@example(service="poller", label="", port_name="http", port=80, protocol="tcp")
@example(service="sutro", label="", port_name="http", port=80, protocol="tcp")
@example(service="sutro-key", label="", port_name="http", port=80, protocol="tcp")
@example(service="poller-{}", label="job-ids", port_name="http", port=80, protocol="tcp")
def test_variables_of_a_kubernetes_service_are_ignored(
    service: str, label: str, port_name: str, port: int, protocol: str
):
    """The variables that a kubelet sets for a Service, whatever its name, are not settings."""
    url, link = f"{protocol}://10.0.0.1:{port}", f"port-{port}-{protocol}"
    injected = {
        "service-host": "10.0.0.1",
        "service-port": str(port),
        f"service-port-{port_name}": str(port),
        "port": url,
        link: url,
        f"{link}-proto": protocol,
        f"{link}-port": str(port),
        f"{link}-addr": "10.0.0.1",
    }
    name = service.format(label)

    assert load(
        GOOD | {f"{name}-{end}".upper().replace("-", "_"): text for end, text in injected.items()}
    )


TEXTS = st.text(st.characters(exclude_characters="\0"), max_size=20) | st.sampled_from(
    ["on", "0", "5m", "*", "a,b", "[", '["a"]', "http://[", "https://a:b", "99999999999d", "1e999"]
)


@given(
    variables=st.dictionaries(st.sampled_from(sorted(load(GOOD | WEBHOOK).sourced)), TEXTS),
)
def test_any_text_is_a_value_or_an_error(variables: dict[str, str]):
    """Whatever a variable contains, it is valid or an error of one line that names a variable."""
    try:
        load(GOOD | WEBHOOK | variables)
    except ConfigError as error:
        for line in error.problems:
            assert re.match(r"[A-Z_]+: ", line)
            assert "\n" not in line


def test_variables_of_other_programs_are_ignored(tmp_path: Path):
    """A variable that begins with SUTRO_ is an error only if it can be meant for the daemon."""
    write_file(tmp_path / "SUTRO_API_KEY", KEY)
    in_file = {"SUTRO_API_KEY": "", "CREDENTIALS_DIRECTORY": str(tmp_path)}

    for environ in (GOOD, GOOD | in_file):
        assert load(environ | {"SUTRO_TEAM": "nlp", "SUTRO_KEY": "sk_of_another_program"})


def test_key_and_jobs_are_required_only_to_run():
    """Without `for_run` only the given settings must be valid; reading the key still raises."""
    config = load({"HOME": "/home/us"}, for_run=False)

    with pytest.raises(ConfigError, match="SUTRO_API_KEY: is required"):
        config.key()


def test_error_contains_no_input():
    """Neither the error nor its context contains an invalid value."""
    with pytest.raises(ConfigError) as caught:
        load(GOOD | WEBHOOK | {"POLLER_WEBHOOK_SECRET": f"bad {SECRET}", "SUTRO_API_URL": LEAKY})

    assert caught.value.__context__ is None
    assert not [canary for canary in CANARIES if canary in str(caught.value)]
