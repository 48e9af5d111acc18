"""Settings that the sinks of other packages may declare."""

import pytest
from pydantic import SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from poller.core.errors import ConfigError
from poller.core.routing import Route
from poller.settings.base import (
    DigestSettings,
    RawSettings,
    SinkSettings,
    default_text,
    route_of,
    setting,
)
from poller.settings.secrets import secret_texts
from poller.settings.sources import EnvSources
from poller.sinks import BUILT_IN, load_kind
from tests.support.config_builders import URL, load_errors


class PagerSettings(SinkSettings):
    """Settings of types that the built-in sinks do not have."""

    tokens: tuple[SecretStr, ...] = setting((), "Tokens")
    retries: int = setting(3, "A number as it is")

    @model_validator(mode="after")
    def _agree(self):
        if self.retries > 9:
            raise ValueError("POLLER_PAGER_RETRIES goes with other things")
        return self


def test_secrets_in_a_list_are_found():
    """Each secret in a tuple is found."""
    settings = PagerSettings(tokens=("one", "two"))

    assert list(secret_texts(settings)) == ["one", "two"]


def test_default_may_be_a_number():
    """A number as a default is shown as a user would write it."""
    assert default_text(PagerSettings.model_fields["retries"]) == "3"


def test_error_of_the_whole_model_names_no_variable():
    """A rule for several settings is reported with its own message."""
    sources = EnvSources(environ={"POLLER_PAGER_RETRIES": "10"})

    with pytest.raises(ConfigError, match=r"^settings: POLLER_PAGER_RETRIES goes with"):
        RawSettings.of(PagerSettings, "POLLER_PAGER_", sources).build()


def test_settings_never_read_the_environment_by_themselves(monkeypatch: pytest.MonkeyPatch):
    """A model that is constructed directly has only its arguments and defaults."""
    monkeypatch.setenv("RETRIES", "7")

    assert PagerSettings().retries == 3


def test_settings_are_read_by_pydantic_settings():
    """The options of the library apply: here one of its options makes a word mean None."""

    class OptionalSettings(PagerSettings):
        model_config = SettingsConfigDict(env_parse_none_str="none")

        note: str | None = setting("hello", "A text")

    sources = EnvSources(environ={"POLLER_PAGER_NOTE": "none", "POLLER_PAGER_RETRIES": "2"})

    settings = RawSettings.of(OptionalSettings, "POLLER_PAGER_", sources).build()

    assert issubclass(OptionalSettings, BaseSettings)
    assert (settings.note, settings.retries) == (None, 2)


def read(**variables: str) -> PagerSettings:
    """Return the settings of a sink with some variables."""
    environ = {f"POLLER_PAGER_{name}": text for name, text in variables.items()}
    return RawSettings.of(PagerSettings, "POLLER_PAGER_", EnvSources(environ=environ)).build()


def test_sink_without_filters_gets_everything():
    """Without a setting there is no filter."""
    assert route_of(read(EVENTS="job.failed")) == Route(types=frozenset({"job.failed"}))


def test_every_sink_has_filters():
    """A sink of another package has the filters, too."""
    settings = read(
        EVENTS="job.failed",
        JOB_NAME="nightly *,!*test*",
        MODEL="llama*",
        MIN_COST="2.50",
        MIN_DURATION="10m",
    )

    assert route_of(settings) == Route(
        types=frozenset({"job.failed"}),
        job_name=("nightly *", "!*test*"),
        model=("llama*",),
        min_cost=2.5,
        min_duration=600.0,
    )


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        (" nightly *, !*test* ,nightly *,", ("nightly *", "!*test*")),
        ("[prod] *", ("[prod] *",)),
        ("[prod],[dev]", ("[prod]", "[dev]")),
        ('["tags, weekly", "!a"]', ("tags, weekly", "!a")),
        ("*", ("*",)),
    ],
)
def test_patterns_are_separated_by_commas(text: str, patterns: tuple[str, ...]):
    """A pattern may have spaces and brackets in it; one with a comma needs the form of JSON."""
    assert read(JOB_NAME=text).job_name == patterns


RULE = "is not a pattern: use names with the wildcards * and ?, such as nightly *,!*test*"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("JOB_NAME", ",", "must name at least one"),
        ("JOB_NAME", "[]", "must name at least one"),
        ("MODEL", "a,!", f"'!' {RULE}"),
        ("MODEL", '[" "]', f"' ' {RULE}"),
        ("MODEL", '["a", 5]', 'must be a list of texts, such as a,b or ["a", "b"]'),
        ("MIN_COST", "$5", "must be a number"),
        ("MIN_COST", "nan", "must be a finite number"),
        ("MIN_COST", "-1", "must be greater than or equal to 0"),
        ("MIN_DURATION", "long", "must be a duration such as 30s, 500ms, 5m or 1h30m"),
    ],
)
def test_wrong_filter_is_reported(name: str, text: str, problem: str):
    """A filter that cannot be read is an error with the variable and the rule."""
    with pytest.raises(ConfigError) as caught:
        read(**{name: text})

    assert caught.value.problems == (f"POLLER_PAGER_{name}: {problem}",)


def test_only_sinks_for_people_have_digests():
    """A program gets each event by itself: for its sink the setting is an unknown variable."""
    with_digests = {kind for kind in BUILT_IN if "digest" in load_kind(kind).settings.model_fields}
    machines = {"log", "webhook", "pagerduty", "alertmanager", "exec", "file"}

    assert with_digests == {*BUILT_IN} - machines
    (problem,) = load_errors(POLLER_WEBHOOK_URL=URL, POLLER_WEBHOOK_DIGEST="5m")
    assert problem.startswith("POLLER_WEBHOOK_DIGEST: unknown variable")


def test_longest_digest_is_a_day():
    """A window is at most a day."""
    assert load_errors(POLLER_SLACK_URL=URL, POLLER_SLACK_DIGEST="25h") == (
        "POLLER_SLACK_DIGEST: must be 1d or less",
    )


def test_route_has_the_digest():
    """The window and the failures of a sink with digests are in its route."""
    variables = {"POLLER_PAGER_DIGEST": "5m", "POLLER_PAGER_DIGEST_FAILURES": "on"}
    settings = RawSettings.of(
        DigestSettings, "POLLER_PAGER_", EnvSources(environ=variables)
    ).build()

    route = route_of(settings)

    assert (route.digest, route.digests_failures) == (300.0, True)
