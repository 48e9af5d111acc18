"""Settings models that pydantic-settings reads from the sources of `EnvSources`."""

from collections import ChainMap
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Generic, Self, TypeVar

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.sources.utils import parse_env_vars

from poller.core.errors import ConfigError
from poller.core.routing import Route
from poller.settings.durations import Duration, at_most
from poller.settings.secrets import holds_secret
from poller.settings.sources import EnvSources, Layer, SourcedValue
from poller.settings.types import EventTypes, Patterns

T = TypeVar("T")
Model = TypeVar("Model", bound="EnvSettings")


@dataclass(slots=True)
class Reloadable(Generic[T]):
    """A value that is replaced when secret files are read again."""

    value: T


class EnvSettings(BaseSettings):
    """The base of all settings: those of the daemon and those of each sink.

    Every field is made by `setting`. Its variable is a prefix and its name in capitals, or its
    `validation_alias`.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        populate_by_name=True,
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        env_ignore_empty=True,
        defer_build=True,  # of the bases, which have no fields
        enable_decoding=False,  # lists take commas too: `parse_list` reads them
    )

    @classmethod
    def settings_customise_sources(
        cls, *_model: Any, **sources: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return no source that reads `os.environ`: `RawSettings` supplies the sources."""
        return (sources["init_settings"],)


class LayerSource(EnvSettingsSource):
    """The library's reader of environment variables, on the values of one source."""

    def __init__(self, model: type[EnvSettings], prefix: str, layer: Layer) -> None:
        names = variables(model, prefix).values()
        self._texts = {name: layer[name].text for name in names if name in layer}
        super().__init__(model, env_prefix=prefix)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return parse_env_vars(
            self._texts, self.case_sensitive, self.env_ignore_empty, self.env_parse_none_str
        )


def setting(default: object, description: str, **rules: Any) -> Any:
    """Declare a setting; its default is the text that a user would write."""
    return Field(default, description=description, **rules)


def env_prefix(sink: str) -> str:
    """Return the prefix of a sink's variables: POLLER_WEBHOOK_AUDIT_ for `webhook.audit`."""
    return f"POLLER_{sink.upper().replace('.', '_')}_"


@dataclass(frozen=True, slots=True)
class RawSettings(Generic[Model]):
    """The settings of one model before they are parsed; `values` has them by variable."""

    model: type[Model]
    prefix: str
    sources: tuple[LayerSource, ...]
    values: Mapping[str, SourcedValue]

    @classmethod
    def of(cls, model: type[Model], prefix: str, sources: EnvSources, **defaults: str) -> Self:
        """Read the texts of every field. `defaults` replace those of the model."""
        fields, names = model.model_fields, variables(model, prefix)
        secrets = {names[name] for name, info in fields.items() if holds_secret(info.annotation)}
        computed = {names[name]: SourcedValue(text=text) for name, text in defaults.items() if text}
        layers = (*sources.layers(secrets), computed)
        declared = {
            names[name]: SourcedValue(text=default_text(info)) for name, info in fields.items()
        }
        found = ChainMap(*layers, declared)
        return cls(
            model,
            prefix,
            tuple(LayerSource(model, prefix, layer) for layer in layers),
            {name: replace(found[name], is_secret=name in secrets) for name in names.values()},
        )

    def build(self) -> Model:
        """Return the parsed settings. Raises ConfigError with every problem."""
        unread = {name: value.problem for name, value in self.values.items() if value.problem}
        lines = list(unread.values())
        read: Callable[..., Model] = self.model
        try:
            model = read(_build_sources=(self.sources, {}))
        except ValidationError as error:
            lines += format_errors(error, variables(self.model, self.prefix), skip=unread)
        if lines:
            raise ConfigError(*lines)
        return model


def variables(model: type[EnvSettings], prefix: str) -> dict[str, str]:
    """Return the variable of every field of a model."""
    fields = model.model_fields.items()
    return {name: str(info.validation_alias or prefix + name.upper()) for name, info in fields}


def default_text(info: FieldInfo) -> str:
    """Return a field's default as a user would write it; empty when there is none."""
    if isinstance(info.default, int | float):
        return f"{info.default:g}"
    return info.default if isinstance(info.default, str) else ""


RULES: Final = {
    "missing": "is required",
    "bool_parsing": "must be on or off",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "path_not_file": "must be a file that exists",
}
"""Messages that replace those of the library, by the type of the error."""


def format_errors(
    error: ValidationError, names: Mapping[str, str], *, skip: Collection[str] = ()
) -> list[str]:
    """Return one line for each problem, with the variable and the rule but never the value.

    `names` has the variable of each field; those in `skip` are left out.
    """
    lines = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        field = str(next(iter(detail["loc"]), "settings"))
        variable = names.get(field, field)
        message = detail["msg"].removeprefix("Value error, ").replace("Input should", "must")
        if variable not in skip:
            lines.append(f"{variable}: {RULES.get(detail['type'], message)}")
    return lines


class SinkSettings(EnvSettings):
    """The base of the settings of every kind of sink."""

    events: EventTypes | None = setting(
        None, "Event types that are sent to this sink; * sends all of them"
    )
    job_name: Patterns = setting(
        (), "Send only events of jobs whose name matches one of these patterns; ! excludes"
    )
    model: Patterns = setting(
        (), "Send only events of jobs whose model matches one of these patterns; ! excludes"
    )
    min_cost: float = setting(
        "0", "Send the ends only of jobs that cost at least this many US dollars", ge=0
    )
    min_duration: Duration = setting(
        "0s", "Send the ends only of jobs that ran at least this long", ge=0
    )


MAX_DIGEST: Final = 86_400.0
"""Seconds for which events are gathered at most."""


class DigestSettings(SinkSettings):
    """The base of the settings of a sink that can send digests.

    Its sink gets events of the type `report.digest` then.
    """

    digest: Annotated[Duration, at_most(MAX_DIGEST)] = setting(
        "0s",
        "Gather events for this long, 1d at most, and send them as one message; 0s sends each by"
        " itself",
    )
    digest_failures: bool = setting(
        "off", "Gather events about failed, missing and unrecognised jobs too"
    )


def route_of(settings: SinkSettings) -> Route:
    """Return which events a sink with these settings gets."""
    digest = settings if isinstance(settings, DigestSettings) else None
    return Route(
        types=frozenset(settings.events or ()),
        job_name=settings.job_name,
        model=settings.model,
        min_cost=settings.min_cost,
        min_duration=settings.min_duration,
        digest=digest.digest if digest else 0.0,
        digests_failures=digest is not None and digest.digest_failures,
    )
