"""Settings that are read from the environment: how texts become typed values."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Self, TypeVar, get_args

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from poller.core.errors import ConfigError
from poller.core.events import EVENT_TYPES
from poller.settings.sources import EnvSources, SourcedValue
from poller.settings.types import StringList

T = TypeVar("T")
Model = TypeVar("Model", bound="EnvSettings")


@dataclass(slots=True)
class Reloadable(Generic[T]):
    """A value that may be exchanged while others hold on to it."""

    value: T


class EnvSettings(BaseSettings):
    """Settings that are read from the environment: the base of the daemon's and of each sink's.

    Every field is made by `setting`. Its variable is a prefix and its name in capitals, or its
    `validation_alias`.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        populate_by_name=True,
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library passes these by name
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what is given: `RawSettings` finds it, with its origin, secret files first."""
        return (init_settings,)


def setting(default: object, description: str, **rules: Any) -> Any:
    """Declare a setting: its default as the text a user would write, and what it is in a line."""
    return Field(default, description=description, **rules)


def env_prefix(sink: str) -> str:
    """Give the prefix of a sink's variables: POLLER_WEBHOOK_AUDIT_ for `webhook.audit`."""
    return f"POLLER_{sink.upper().replace('.', '_')}_"


@dataclass(frozen=True, slots=True)
class RawSettings(Generic[Model]):
    """What was found for the fields of one model under one prefix."""

    model: type[Model]
    prefix: str
    values: Mapping[str, SourcedValue]

    @classmethod
    def of(cls, model: type[Model], prefix: str, places: EnvSources, **defaults: str) -> Self:
        """Look for every field. `defaults` are those that depend on the surroundings."""
        found = {}
        for name, variable in variables(model, prefix).items():
            is_secret = holds_secret(model.model_fields[name].annotation)
            text = defaults.get(name) or default_text(model.model_fields[name])
            fallback = SourcedValue(text=text, is_secret=is_secret)
            found[name] = places.find(variable, is_secret=is_secret) or fallback
        return cls(model, prefix, found)

    def by_variable(self) -> dict[str, SourcedValue]:
        """Give what was found by the names of the variables."""
        return {it: self.values[name] for name, it in variables(self.model, self.prefix).items()}

    def build(self) -> Model:
        """Turn the texts into a model. Raises ConfigError with every problem."""
        unread = {name: it.problem for name, it in self.values.items() if it.problem}
        texts = {name: it.text for name, it in self.values.items() if it.text}
        lines = list(unread.values())
        try:
            model = self.model(**texts)
        except ValidationError as error:
            lines += format_errors(error, variables(self.model, self.prefix), but=unread)
        if lines:
            raise ConfigError(*lines)
        return model


def variables(model: type[EnvSettings], prefix: str) -> dict[str, str]:
    """Name the variable of every field of a model."""
    fields = model.model_fields.items()
    return {name: str(it.validation_alias or prefix + name.upper()) for name, it in fields}


def default_text(it: FieldInfo) -> str:
    """Give a field's default as a user would write it; empty when there is none."""
    if isinstance(it.default, int | float):
        return f"{it.default:g}"
    return it.default if isinstance(it.default, str) else ""


def holds_secret(annotation: object) -> bool:
    """Tell whether values of a type hold a SecretStr."""
    return annotation is SecretStr or any(holds_secret(it) for it in get_args(annotation))


def secret_texts(value: object) -> Iterator[str]:
    """Give the text of every SecretStr in a model, a tuple or a mapping."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, EnvSettings | Mapping):
        items = value if isinstance(value, EnvSettings) else value.items()
        for _, item in items:
            yield from secret_texts(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from secret_texts(item)


RULES: Final = {
    "missing": "is required",
    "bool_parsing": "must be on or off",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "path_not_file": "must be a file that exists",
}
"""What is said where the library's own words are for programmers, by the type of the error."""


def format_errors(
    error: ValidationError, names: Mapping[str, str], *, but: Collection[str] = ()
) -> list[str]:
    """Say each problem in a line that names the variable and the rule, never the value.

    `names` gives the variable of each field; fields in `but` were complained about already.
    """
    said = {names[name] for name in but}
    details = error.errors(include_url=False, include_context=False, include_input=False)
    by_variable = [(_variable(it, names), _rule(it)) for it in details]
    return [f"{name}: {rule}" for name, rule in by_variable if name not in said]


def _variable(it: ErrorDetails, names: Mapping[str, str]) -> str:
    name = str(next(iter(it["loc"]), "settings"))
    return names.get(name, name)


def _rule(it: ErrorDetails) -> str:
    own = it["msg"].removeprefix("Value error, ").replace("Input should", "must")
    return RULES.get(it["type"], own)


class SinkSettings(EnvSettings):
    """What every sink can be told."""

    events: StringList | None = setting(None, "Event types that this sink takes; * takes all")

    @field_validator("events")
    @classmethod
    def _know_the_events(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        known = sorted(EVENT_TYPES)
        if names == ("*",):
            return tuple(known)
        if not EVENT_TYPES.issuperset(names or ()):
            raise ValueError(f"must be * or some of {', '.join(known)}")
        return names
