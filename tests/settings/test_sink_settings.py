"""What a sink of somebody else may declare."""

import pytest
from pydantic import SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from poller.core.errors import ConfigError
from poller.settings.base import RawSettings, SinkSettings, default_text, setting
from poller.settings.secrets import secret_texts
from poller.settings.sources import EnvSources


class PagerSettings(SinkSettings):
    """A sink's settings with the shapes that the built-in sinks do not have."""

    tokens: tuple[SecretStr, ...] = setting((), "Tokens")
    retries: int = setting(3, "A number as it is")

    @model_validator(mode="after")
    def _agree(self):
        if self.retries > 9:
            raise ValueError("POLLER_PAGER_RETRIES goes with other things")
        return self


def test_secrets_in_a_list_are_secrets():
    """Each secret of several is found."""
    settings = PagerSettings(tokens=("one", "two"))

    assert list(secret_texts(settings)) == ["one", "two"]


def test_a_default_may_be_a_number():
    """A number as a default is shown as it would be written."""
    assert default_text(PagerSettings.model_fields["retries"]) == "3"


def test_a_rule_between_settings_is_told_in_its_own_words():
    """A rule of the whole model has no variable of its own to name."""
    places = EnvSources(environ={"POLLER_PAGER_RETRIES": "10"})

    with pytest.raises(ConfigError, match=r"^settings: POLLER_PAGER_RETRIES goes with"):
        RawSettings.of(PagerSettings, "POLLER_PAGER_", places).build()


def test_settings_never_read_the_environment_by_themselves(monkeypatch: pytest.MonkeyPatch):
    """A model that is made by hand holds what it is given and defaults."""
    monkeypatch.setenv("RETRIES", "7")

    assert PagerSettings().retries == 3


def test_settings_are_read_by_pydantic_settings():
    """The options of the library apply: this model reads a word of its own as no value."""

    class OptionalSettings(PagerSettings):
        model_config = SettingsConfigDict(env_parse_none_str="none")

        note: str | None = setting("hello", "A text")

    sources = EnvSources(environ={"POLLER_PAGER_NOTE": "none", "POLLER_PAGER_RETRIES": "2"})

    settings = RawSettings.of(OptionalSettings, "POLLER_PAGER_", sources).build()

    assert issubclass(OptionalSettings, BaseSettings)
    assert (settings.note, settings.retries) == (None, 2)
