"""Settings that the sinks of other packages may declare."""

import pytest
from pydantic import SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from poller.core.errors import ConfigError
from poller.settings.base import RawSettings, SinkSettings, default_text, setting
from poller.settings.secrets import secret_texts
from poller.settings.sources import EnvSources


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
