"""Read the JSON Schema of events: their fields, and how each type narrows them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from poller.core.events import json_schema

Schema = Mapping[str, Any]

SCHEMA: Final = json_schema()
DEFINITIONS: Final[Schema] = SCHEMA["$defs"]
PREFIX: Final = "#/$defs/"

TIMES: Final = frozenset({"time", "timeOrNull"})
OBJECTS: Final = {
    "job": "Job",
    "unobservedJob": "UnobservedJob",
    "detection": "Detection",
    "digestLine": "DigestLine",
    "modelCosts": "ModelCosts",
    "reportedJob": "ReportedJob",
    "reportedSink": "ReportedSink",
    "overdue": "Overdue",
}
"""The definitions that are types of their own, with their names."""
BASES: Final = {
    "jobData": "Job",
    "pollerData": "Poller",
    "digestData": "Digest",
    "reportData": "Report",
    "budgetData": "Budget",
}
"""The definitions of the data of several event types, and how the names of their classes begin."""
LIST: Final = "[]"
"""The end of the kind of a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field. `kinds` are names of OBJECTS, `time`, `null` and types of JSON Schema.

    A kind that ends with LIST is a list of such.
    """

    kinds: tuple[str, ...]
    values: tuple[str, ...] = ()
    description: str = ""
    is_required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EventShape:
    """One event type, and the fields of its data that differ from those of all job events."""

    type: str
    description: str
    base: str
    fields: dict[str, Field] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its class: JobFailed for job.failed."""
        return "".join(word.capitalize() for word in self.type.replace(".", "_").split("_"))


def fields(definition: str) -> dict[str, Field]:
    """Return the fields of a definition, without those of the one that it extends."""
    schema = DEFINITIONS[definition]
    return {
        name: read_field(found, is_required=name in schema.get("required", ()))
        for name, found in schema["properties"].items()
    }


def description(definition: str) -> str:
    """Return the description of a definition."""
    return str(DEFINITIONS[definition]["description"])


def read_field(schema: Schema, *, is_required: bool = True) -> Field:
    """Return one field."""
    return Field(
        kinds=tuple(dict.fromkeys(_kinds(schema))),
        values=tuple(value for value in schema.get("enum", ()) if value),
        description=schema.get("description") or _referred(schema).get("description", ""),
        is_required=is_required,
    )


def shapes() -> Iterator[EventShape]:
    """Yield every event type in the order of the schema."""
    for schema in SCHEMA["oneOf"]:
        kind, data = schema["properties"]["type"]["const"], schema["properties"]["data"]
        yield EventShape(
            type=kind,
            description=schema["description"],
            base=_base(data),
            fields=dict(_narrowed(data)),
        )


def _base(data: Schema) -> str:
    """Return how the name of the class of an event with this data begins."""
    name = data["$ref"].removeprefix(PREFIX)
    return BASES.get(name) or _base(DEFINITIONS[name])


def _narrowed(data: Schema) -> Iterator[tuple[str, Field]]:
    """Yield the fields that a type narrows, in its own place or in a definition between."""
    between = _referred(data)
    properties = {**data.get("properties", {})}
    if "$ref" in between and data["$ref"].removeprefix(PREFIX) not in BASES:
        properties = {**between["properties"]}
    for name, found in properties.items():
        yield name, read_field(found)
    for name in data.get("required", ()):
        yield name, read_field(DEFINITIONS["pollerData"]["properties"][name])


def _referred(schema: Schema) -> Schema:
    name = schema.get("$ref", "").removeprefix(PREFIX)
    found: Schema = DEFINITIONS.get(name, {})
    return found


def _kinds(schema: Schema) -> Iterator[str]:
    name = schema.get("$ref", "").removeprefix(PREFIX)
    if name in OBJECTS or name == "time":
        yield OBJECTS.get(name, name)
    elif name:
        yield from _kinds(_referred(schema))
    for part in schema.get("oneOf", ()):
        yield from _kinds(part)
    if "items" in schema:
        yield from (f"{kind}{LIST}" for kind in _kinds(schema["items"]))
        return
    if "enum" in schema:
        yield "enum"
        yield from ("null",) if None in schema["enum"] else ()
    given = schema.get("type", ())
    yield from [given] if isinstance(given, str) else given
