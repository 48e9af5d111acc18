"""Every setting of the daemon, with its default and its rules."""

import re
import ssl
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, SecretStr, ValidationInfo, field_validator

from poller.core.jobs import is_job_id
from poller.runtime.address import DEFAULT_ADDRESS, ListenAddress, is_host, is_loopback
from poller.settings.base import EnvSettings, setting
from poller.settings.types import PRINTABLE, Duration, StringList, validate_http_url

PREFIX: Final = "POLLER_"
MEMORY: Final = "memory:"

SINK_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)?")
TOKEN_CHARS: Final = 16
NAMESPACE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

AnyCase = BeforeValidator(lambda text: text.lower() if isinstance(text, str) else text)


class Settings(EnvSettings):
    """What the daemon can be told; sinks have settings of their own."""

    api_key: SecretStr | None = setting(
        None, "The key of the Sutro API, sk_...; required", validation_alias="SUTRO_API_KEY"
    )
    allow_http: bool = setting("off", "Allow plain http to a host that is not this machine")
    api_url: str = setting(
        "https://api.sutro.sh",
        "The API, or your own deployment of it; a path is taken as it is",
        validation_alias="SUTRO_API_URL",
    )
    request_timeout: Duration = setting("30s", "How long one request may take", gt=0)
    ca_file: Path | None = setting(None, "Certificates to trust in place of the system's (PEM)")
    proxy: SecretStr | None = setting(
        None, "The proxy of all requests; without it HTTPS_PROXY and NO_PROXY count"
    )

    job_ids: StringList = setting((), "Ids of the jobs to watch")
    jobs_file: Path | None = setting(
        None, "A file of ids to watch, one a line, # for comments; re-read when it changes"
    )

    exit_when_done: bool = setting(
        "off", "Exit with 0 once all jobs have ended and all events are delivered or dead"
    )

    discover: bool = setting("off", "Watch every job of the account, named or not")
    discover_name: str = setting("*", "Of these, those whose name fits this pattern of * and ?")
    discover_model: str = setting("*", "Of these, those whose model fits this pattern")
    discover_max_age: Duration = setting(
        "7d", "Of these, those that were created no longer ago than that", gt=0
    )
    discover_interval: Duration = setting("30s", "How often to look for new jobs", gt=0)

    min_interval: Duration = setting("2s", "The shortest wait between two looks at a job", gt=0)
    max_interval: Duration = setting("5m", "The longest; the same as the shortest is fixed", gt=0)
    interval_factor: float = setting("1", "Stretches the waits: 2 asks half as often", gt=0)
    requests_per_minute: float = setting("120", "The most requests to the API in a minute", gt=0)
    concurrency: int = setting("16", "The most requests in flight at once, 1 to 256", ge=1, le=256)

    list_pages: Annotated[Literal["auto", "off"], AnyCase] = setting(
        "auto",
        "auto asks for pages that show several due jobs at once; off asks for each job alone",
    )

    settle_timeout: Duration = setting(
        "30s", "How long the end of a job may wait for its final cost", gt=0
    )
    not_found_grace: Duration = setting(
        "10m", "How long the API may not know a new job before it counts as missing", gt=0
    )
    event_id_namespace: str = setting(
        "sutro", "Sets the ids of events apart; change it only to start anew"
    )

    sinks: StringList = setting(
        "log", "Who gets the events; by default also webhook when its URL is set"
    )

    store: str = setting(
        ...,
        "The database, a path or memory:; by default state.db in $STATE_DIRECTORY, else in "
        "sutro-poller in $XDG_STATE_HOME or ~/.local/state",
    )
    allow_network_store: bool = setting("off", "Allow a database on a network file system")

    listen: str = setting(
        DEFAULT_ADDRESS,
        "Where the API is served: a host and a port, unix:/path of a socket, or off; on an address"
        " that others can reach, without a token, only probes, metrics and the version",
    )
    listen_token: SecretStr | None = setting(
        None, "What a request to the API must bring along, as Authorization: Bearer"
    )
    allowed_hosts: StringList = setting(
        (), "Names by which requests may come, beside localhost and addresses"
    )

    log_level: Annotated[Literal["debug", "info", "warning", "error"], AnyCase] = setting(
        "info", "The least level that is logged: debug, info, warning or error"
    )
    log_format: Annotated[Literal["auto", "json", "console"], AnyCase] = setting(
        "auto", "json, console, or auto: console on a terminal"
    )

    @field_validator("api_key")
    @classmethod
    def _fit_for_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        if key and not PRINTABLE.fullmatch(key.get_secret_value()):
            raise ValueError("must be one line of printable ASCII without spaces")
        return key

    @field_validator("api_url")
    @classmethod
    def _base_url(cls, url: str, info: ValidationInfo) -> str:
        validate_http_url(url)
        parts = urlsplit(url)
        if "@" in parts.netloc or "?" in url or "#" in url:
            raise ValueError("must have no user, query or fragment")
        is_allowed = info.data.get("allow_http", True) or is_loopback(parts.hostname or "")
        if parts.scheme == "http" and not is_allowed:
            raise ValueError("must be https, or set POLLER_ALLOW_HTTP=on")
        return url.rstrip("/")

    @field_validator("ca_file")
    @classmethod
    def _certificates(cls, path: Path | None) -> Path | None:
        try:
            if path:
                ssl.create_default_context(cafile=path)
        except OSError as error:
            # Of a file without any, OpenSSL speaks in its own tongue.
            is_read = isinstance(error, ssl.SSLError)
            why = "it holds none" if is_read else error.strerror
            raise ValueError(f"must be a file of certificates in PEM: {why}") from None
        return path

    @field_validator("listen")
    @classmethod
    def _address(cls, listen: str) -> str:
        ListenAddress.parse(listen)
        return listen

    @field_validator("listen_token")
    @classmethod
    def _long_token(cls, token: SecretStr | None) -> SecretStr | None:
        text = token.get_secret_value() if token else ""
        if token and not (PRINTABLE.fullmatch(text) and len(text) >= TOKEN_CHARS):
            raise ValueError(f"must be {TOKEN_CHARS} or more of printable ASCII without spaces")
        return token

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if odd := [it for it in names if not is_host(it.lower())]:
            raise ValueError(f"{odd[0][:64]!r} is no name of a host")
        return tuple(it.lower() for it in names)

    @field_validator("proxy")
    @classmethod
    def _proxy_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url:
            validate_http_url(url.get_secret_value())
        return url

    @field_validator("job_ids")
    @classmethod
    def _usable_ids(cls, job_ids: tuple[str, ...]) -> tuple[str, ...]:
        if odd := [it for it in job_ids if not is_job_id(it)]:
            raise ValueError(f"{odd[0][:64]!r} cannot be a job id: letters, digits, . _ - only")
        return job_ids

    @field_validator("discover")
    @classmethod
    def _never_done(cls, discover: bool, info: ValidationInfo) -> bool:
        if discover and info.data.get("exit_when_done"):
            raise ValueError("must be off while POLLER_EXIT_WHEN_DONE is on: it never is done")
        return discover

    @field_validator("list_pages")
    @classmethod
    def _on_for_discovery(cls, listing: str, info: ValidationInfo) -> str:
        if listing == "off" and info.data.get("discover"):
            raise ValueError("must be auto while POLLER_DISCOVER is on: jobs are found in the list")
        return listing

    @field_validator("max_interval")
    @classmethod
    def _not_below_the_minimum(cls, longest: float, info: ValidationInfo) -> float:
        if longest < info.data.get("min_interval", 0.0):
            raise ValueError("must not be less than POLLER_MIN_INTERVAL")
        return longest

    @field_validator("event_id_namespace")
    @classmethod
    def _short_namespace(cls, namespace: str) -> str:
        if not NAMESPACE.fullmatch(namespace):
            raise ValueError("must be 1 to 64 of letters, digits, . _ -")
        return namespace

    @field_validator("sinks")
    @classmethod
    def _sink_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if odd := [it for it in names if not SINK_NAME.fullmatch(it)]:
            raise ValueError(f"{odd[0][:64]!r} is no name like webhook or webhook.audit")
        return names

    @field_validator("store")
    @classmethod
    def _path_or_memory(cls, store: str) -> str:
        if store != MEMORY and re.match(r"[A-Za-z][A-Za-z0-9+.]+:", store):
            raise ValueError("must be a path or memory:")
        return store
