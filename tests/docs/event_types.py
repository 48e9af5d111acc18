"""Write the types of events from their JSON Schema: poller/receive/events.py, docs/events.d.ts."""

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Final

from tests.docs.event_shapes import (
    LIST,
    OBJECTS,
    EventShape,
    Field,
    description,
    fields,
    read_field,
    shapes,
)

WIDTH: Final = 100
JOB_EVENT: Final = fields("origin") | fields("jobData")
POLLER_EVENT: Final = fields("origin") | fields("pollerData")
DIGEST_EVENT: Final = fields("origin") | fields("digestData")
REPORT_EVENT: Final = fields("origin") | fields("reportData")
BUDGET_EVENT: Final = fields("origin") | fields("budgetData")
ANY_JOB: Final = Field(kinds=("Job", "UnobservedJob"))

PYTHON: Final = {
    "time": "datetime",
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "object": "dict[str, Any]",
    "null": "None",
}
PYTHON_HEAD: Final = '''\
"""The types of events, written by `make generate` from poller/event.schema.json.

A field is None if the API gives no value. Times are datetimes in UTC, durations are seconds, costs
are US dollars.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
'''
PYTHON_EVENT: Final = '''

@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event; of a type that this version does not know, if it is of no subclass.

    `data` has all fields as sent, also those that this version does not know. `is_test`:
    it comes from `sutro-poller sinks test`, and its job does not exist. `is_replay`: an operator
    has sent it again; this is not signed.
    """

    id: str
    type: str
    timestamp: datetime
    observed_at: datetime
    deployment: str
    data: dict[str, Any] = field(repr=False)
    is_test: bool = False
    is_replay: bool = False

'''

TYPESCRIPT: Final = PYTHON | {
    "time": "string",
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "object": "Record<string, unknown>",
    "null": "null",
}
TYPESCRIPT_HEAD: Final = """\
// The types of events, written by `make generate` from poller/event.schema.json. Later versions may
// add fields and types. Times are RFC 3339 in UTC, durations are seconds, costs are US dollars.
"""


def python() -> str:
    """Return the module of dataclasses."""
    times = [name for name, found in _all_fields().items() if "time" in found.kinds]
    parts = [
        PYTHON_HEAD,
        _python_values("PreviousStatus", JOB_EVENT["previous_status"].values),
        *(_python_class(name, found, "") for found, name in OBJECTS.items()),
        PYTHON_EVENT,
        _python_base("JobEvent", "An event about a job.", fields("jobData") | {"job": ANY_JOB}),
        _python_base("PollerEvent", "An event about the daemon itself.", fields("pollerData")),
        _python_base("DigestEvent", "Several events in one.", fields("digestData")),
        _python_base("ReportEvent", "A report about many jobs.", fields("reportData")),
        _python_base("BudgetEvent", "An event about a budget.", fields("budgetData")),
        *(_python_event(shape) for shape in shapes()),
        "\nEVENT_TYPES: Final[dict[str, type[Event]]] = {\n",
        *(f'    "{shape.type}": {shape.name},\n' for shape in shapes()),
        '}\n"""The class of each event type."""\n\nTIME_FIELDS: Final = frozenset(\n    {\n',
        *(f'        "{name}",\n' for name in sorted(times)),
        "    }\n)\n",
        "\nITEM_TYPES: Final[dict[str, type]] = {\n",
        *(f'    "{name}": {kind},\n' for name, kind in _items(DIGEST_EVENT | REPORT_EVENT)),
        '}\n"""The class of the items of a field that is a list of objects."""\n',
    ]
    return "".join(parts)


def typescript() -> str:
    """Return the module of interfaces."""
    names = " | ".join(shape.name for shape in shapes())
    parts = [
        TYPESCRIPT_HEAD,
        *(_interface(name, description(found), fields(found)) for found, name in OBJECTS.items()),
        _interface("JobData", description("jobData"), JOB_EVENT | {"job": ANY_JOB}),
        _interface("PollerData", description("pollerData"), POLLER_EVENT),
        _interface("DigestData", description("digestData"), DIGEST_EVENT),
        _interface("ReportData", description("reportData"), REPORT_EVENT),
        _interface("BudgetData", description("budgetData"), BUDGET_EVENT),
        *(_event_interface(shape) for shape in shapes()),
        f"\nexport type Event =\n  | {names.replace(' | ', f'{chr(10)}  | ')};\n",
    ]
    return "".join(parts)


def _all_fields() -> dict[str, Field]:
    known = {"timestamp": read_field({"$ref": "#/$defs/time"})} | JOB_EVENT
    known |= DIGEST_EVENT | REPORT_EVENT | BUDGET_EVENT
    for definition in OBJECTS:
        known |= fields(definition)
    return known


def _items(found: Mapping[str, Field]) -> Iterator[tuple[str, str]]:
    """Yield the fields that are lists of objects, with the classes of these."""
    for name, each in found.items():
        kind = each.kinds[0].removesuffix(LIST)
        if each.kinds[0].endswith(LIST) and kind in OBJECTS.values():
            yield name, kind


def _python_class(name: str, definition: str, base: str) -> str:
    head = f"\n\n@dataclass(frozen=True, slots=True, kw_only=True)\nclass {name}{base}:\n"
    body = "".join(_python_fields(fields(definition)))
    return f"{head}{_docstring(description(definition))}\n{body}"


def _python_base(name: str, text: str, found: Mapping[str, Field]) -> str:
    head = f"\n@dataclass(frozen=True, slots=True, kw_only=True)\nclass {name}(Event):\n"
    return f"{head}{_docstring(text)}\n{''.join(_python_fields(found))}\n"


def _python_event(shape: EventShape) -> str:
    head = f"\nclass {shape.name}({shape.base}Event):\n"
    narrowed = {name: Field(kinds=found.kinds) for name, found in shape.fields.items()}
    # No dataclass of its own, which would take 2 ms of every import: it has the fields of its base.
    lines = [
        "    __slots__ = ()\n\n",
        f'    type: Literal["{shape.type}"]\n',
        *_python_fields(narrowed),
    ]
    return f"{head}{_docstring(shape.description)}\n{''.join(lines)}\n"


def _python_fields(found: Mapping[str, Field]) -> Iterator[str]:
    for name, each in found.items():
        is_optional = not each.is_required
        kind = "PreviousStatus | None" if each.values else _union(each, PYTHON, "list[{}]")
        yield f"    {name}: {kind}{' | None = None' if is_optional else ''}\n"
        if each.description:
            yield _docstring(each.description)


def _python_values(name: str, values: tuple[str, ...]) -> str:
    lines = "".join(f'    "{value}",\n' for value in values)
    return f"\n{name} = Literal[\n{lines}]\n"


def _docstring(text: str, indent: str = "    ") -> str:
    text = text.replace("null", "None").replace("Null", "None")
    lines = wrap(text, WIDTH - len(indent) - 3, initial_indent=" " * 3)
    first = lines[0].lstrip()
    if len(lines) == 1 and len(first) <= WIDTH - len(indent) - 6:
        return f'{indent}"""{first}"""\n'
    summary, _, rest = text.partition(". ")
    body = [f'{indent}"""{summary.rstrip(".")}.', "", *wrap(rest, WIDTH - 4)] if rest else []
    if not body or len(body[0]) > WIDTH:
        body = [f'{indent}"""{first}', *wrap(" ".join(lines[1:]), WIDTH - 4)]
    return (
        "\n".join([body[0], *(f"{indent}{line}".rstrip() for line in body[1:])])
        + f'\n{indent}"""\n'
    )


def _union(found: Field, names: Mapping[str, str], of_list: str = "{}[]") -> str:
    return " | ".join(_name_of(kind, names, of_list) for kind in found.kinds)


def _name_of(kind: str, names: Mapping[str, str], of_list: str) -> str:
    if kind.endswith(LIST):
        item = kind.removesuffix(LIST)
        return of_list.format(names.get(item, item))
    return names.get(kind, kind)


def _interface(name: str, text: str, found: Mapping[str, Field]) -> str:
    return f"\n{_comment(text)}export interface {name} {{\n{''.join(_members(found))}}}\n"


def _members(found: Mapping[str, Field]) -> Iterator[str]:
    for name, each in found.items():
        values = " | ".join(f'"{value}"' for value in each.values)
        kind = f"{values} | null" if values else _union(each, TYPESCRIPT)
        if each.description:
            yield _comment(each.description, "  ")
        yield f"  {name}{'' if each.is_required else '?'}: {kind};\n"


def _event_interface(shape: EventShape) -> str:
    data = f"{shape.base}Data"
    narrowed = "; ".join(
        f"{name}: {_union(found, TYPESCRIPT)}" for name, found in shape.fields.items()
    )
    both = f"{data} & {{ {narrowed} }}" if narrowed else data
    return (
        f"\n{_comment(shape.description)}export interface {shape.name} {{\n"
        f'  type: "{shape.type}";\n  timestamp: string;\n  data: {both};\n}}\n'
    )


def _comment(text: str, indent: str = "") -> str:
    if len(text) + len(indent) + 7 <= WIDTH:
        return f"{indent}/** {text} */\n"
    lines = [f"{indent} * {line}\n" for line in wrap(text, WIDTH - len(indent) - 3)]
    return f"{indent}/**\n{''.join(lines)}{indent} */\n"
