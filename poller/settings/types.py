"""Types of settings: how the text of a variable becomes a value, and which rules it must keep."""

import json
import re
import ssl
from collections.abc import Callable, Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from poller.core.events import EVENT_TYPES
from poller.core.jobs import JOB_ID_RULE, is_job_id
from poller.core.patterns import EXCLUDE
from poller.core.spelling import closest
from poller.runtime.address import HOST_NAME, ListenAddress, is_host, is_loopback
from poller.settings.durations import UNITS, at_most, parse_duration
from poller.settings.sources import MEMORY

T = TypeVar("T")

MIN_TOKEN_CHARS: Final = 16
PRINTABLE: Final = re.compile(r"[!-~]+")
SINK_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)?")
NAMESPACE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
URL_SCHEME: Final = re.compile(r":|[A-Za-z][A-Za-z0-9+.]+:")
JSON_LIST: Final = re.compile(r'\[\s*["\]]')
"""A name of a job may begin with a bracket, too."""
MAX_RETRY_DELAY: Final = UNITS["d"]
_STATUSES: Final = re.compile("([2-5][0-9]{2})(?:-([2-5][0-9]{2}))?")
TLS_RULES: Final = {
    "http": "must be https, or set POLLER_ALLOW_HTTP=on",
    "smtp": "must be smtps or smtp+starttls, or set POLLER_ALLOW_HTTP=on",
}
"""The rules for URLs without TLS, by their scheme."""


def parse_list(value: object) -> object:
    """Return the words of a list with commas, white space or in JSON, each of them once."""
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(_split(value)))


def _parse_statuses(value: object) -> object:
    """Return the HTTP statuses of a list such as `302` or `302,400-499`. Raises ValueError."""
    if not isinstance(value, str):
        return value
    statuses: set[int] = set()
    for item in _split(value):
        limits = _STATUSES.fullmatch(item)
        first, last = (int(limits[1]), int(limits[2] or limits[1])) if limits else (1, 0)
        if last < first:
            raise ValueError("must be statuses from 200 to 599, such as 302 or 302,400-499")
        statuses.update(range(first, last + 1))
    return frozenset(statuses)


def _parse_durations(value: object) -> object:
    return tuple(map(parse_duration, _split(value))) if isinstance(value, str) else value


def _split(text: str) -> list[str]:
    if text.startswith("["):
        items = _parse_json_list(text)
    else:
        items = [item for item in re.split(r"[,\s]+", text) if item]
    return _some(items)


def _some(items: list[str]) -> list[str]:
    if not items:
        raise ValueError("must name at least one")
    return items


def parse_patterns(value: object) -> object:
    """Return the patterns of a list with commas or in JSON; names may have spaces in them."""
    if not isinstance(value, str):
        return value
    if JSON_LIST.match(value):
        return parse_list(value)
    items = [item.strip() for item in value.split(",")]
    return tuple(dict.fromkeys(_some([item for item in items if item])))


def _parse_json_list(text: str) -> list[str]:
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list) or not all(isinstance(item, str) and item for item in items):
        raise ValueError('must be a list of texts, such as a,b or ["a", "b"]')
    return items


def is_url(url: str, schemes: Collection[str]) -> bool:
    """Return whether a text is a URL with a host and one of these schemes."""
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:
        return False
    return bool(is_whole and PRINTABLE.fullmatch(url))


def is_http_url(url: str) -> bool:
    """Return whether a text is an http or https URL with a host."""
    return is_url(url, {"http", "https"})


def tls_rule(url: str) -> str | None:
    """Return the rule that a URL to another host breaks if what is sent there is not encrypted."""
    if not is_url(url, TLS_RULES) or is_loopback(urlsplit(url).hostname or ""):
        return None
    return TLS_RULES[urlsplit(url).scheme]


def parse_proxy(text: str) -> str:
    """Return the URL of a proxy; `host:port` is http, as for curl. Raises ValueError."""
    url = text if "://" in text else f"http://{text}"
    if url.lower().startswith("socks"):
        raise ValueError(
            "SOCKS proxies are not supported: use an http proxy, or NO_PROXY=* for none"
        )
    if not is_http_url(url):
        raise ValueError("must be the URL of an http or https proxy, or host:port")
    return url


def _parse_secret_proxy(value: object) -> object:
    return parse_proxy(value) if isinstance(value, str) else value


def _check_base_url(url: str) -> str:
    if "@" in urlsplit(url).netloc or "?" in url or "#" in url:
        raise ValueError("must have no user, query or fragment")
    return url.rstrip("/")


def _check_certificates(path: Path) -> Path:
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        # OpenSSL has no plain words for a file without certificates.
        is_read = isinstance(error, ssl.SSLError)
        reason = "it contains none" if is_read else error.strerror
        raise ValueError(f"must be a file of certificates in PEM: {reason}") from None
    return path


def _check_event_types(names: tuple[str, ...]) -> tuple[str, ...]:
    known = sorted(EVENT_TYPES)
    if names == ("*",):
        return tuple(known)
    for name in names:
        if name not in EVENT_TYPES:
            close = closest(name, known)
            advice = f"did you mean {close}?" if close else f"use * or some of {', '.join(known)}"
            raise ValueError(f"{name[:64]!r} is not an event type; {advice}")
    return names


def _must(is_valid: Callable[[str], object], rule: str) -> AfterValidator:
    """Return a validator of a text; its message never repeats the text."""

    def check(value: str | SecretStr) -> str | SecretStr:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not is_valid(text):
            raise ValueError(rule)
        return value

    return AfterValidator(check)


def _each_must(is_valid: Callable[[str], object], rule: str) -> AfterValidator:
    """Return a validator of the items of a list; its message names the first bad one."""

    def check(items: tuple[str, ...]) -> tuple[str, ...]:
        for item in items:
            if not is_valid(item):
                raise ValueError(f"{item[:64]!r} {rule}")
        return items

    return AfterValidator(check)


def needs_extra(module: str, extra: str) -> AfterValidator:
    """Return a validator that fails without the library of an optional dependency."""

    def check(value: T) -> T:
        if find_spec(module) is None:
            raise ValueError(f"needs a library: pip install 'sutro-poller[{extra}]'")
        return value

    return AfterValidator(check)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


RetryDelays = Annotated[
    tuple[Annotated[float, Field(gt=0), at_most(MAX_RETRY_DELAY)], ...],
    BeforeValidator(_parse_durations),
]
StringList = Annotated[tuple[str, ...], BeforeValidator(parse_list)]
AnyCase = BeforeValidator(_lower)
ListPages = Annotated[Literal["auto", "off"], AnyCase]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], AnyCase]
LogFormat = Annotated[Literal["auto", "json", "console"], AnyCase]

_HTTP_URL: Final = _must(is_http_url, "must be a URL such as https://host or http://host:port")
BaseUrl = Annotated[str, _HTTP_URL, AfterValidator(_check_base_url)]
JobUrl = Annotated[
    str, _HTTP_URL, _must(lambda url: "{job_id}" in url, "must have {job_id} for the job's ID")
]
SecretUrl = Annotated[SecretStr, _HTTP_URL]
SecretUrls = Annotated[tuple[SecretUrl, ...], BeforeValidator(parse_list)]
ProxyUrl = Annotated[SecretStr, BeforeValidator(_parse_secret_proxy)]
CertificateFile = Annotated[Path, AfterValidator(_check_certificates)]
ApiKey = Annotated[
    SecretStr, _must(PRINTABLE.fullmatch, "must be one line of printable ASCII without spaces")
]
Token = Annotated[
    SecretStr,
    _must(
        lambda text: len(text) >= MIN_TOKEN_CHARS and PRINTABLE.fullmatch(text),
        f"must be {MIN_TOKEN_CHARS} or more characters of printable ASCII without spaces",
    ),
]
Address = Annotated[ListenAddress, BeforeValidator(ListenAddress.parse)]
Patterns = Annotated[
    tuple[str, ...],
    BeforeValidator(parse_patterns),
    _each_must(
        lambda pattern: pattern.removeprefix(EXCLUDE).strip(),
        "is not a pattern: use names with the wildcards * and ?, such as nightly *,!*test*",
    ),
]
OriginName = Annotated[
    str, AnyCase, _must(HOST_NAME.fullmatch, "must be a name such as poller.example.com")
]
Statuses = Annotated[frozenset[int], BeforeValidator(_parse_statuses)]
HostNames = Annotated[StringList, AnyCase, _each_must(is_host, "is not a host name or address")]
JobIds = Annotated[
    StringList,
    _each_must(is_job_id, f"is not valid: {JOB_ID_RULE}"),
]
EventTypes = Annotated[StringList, AfterValidator(_check_event_types)]
SinkNames = Annotated[
    StringList,
    _each_must(
        SINK_NAME.fullmatch,
        "is not a sink name: use lower-case letters, digits and '_', such as webhook or"
        " webhook.audit",
    ),
]
Namespace = Annotated[
    str, _must(NAMESPACE.fullmatch, "must be 1 to 64 letters, digits, '.', '_' or '-'")
]
StorePath = Annotated[
    str,
    _must(lambda text: text == MEMORY or not URL_SCHEME.match(text), "must be a path or memory:"),
]
