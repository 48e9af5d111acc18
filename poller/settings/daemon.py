"""Every setting of the daemon, with its default and its rules."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import SecretStr, ValidationInfo, field_validator

from poller.core.budgets import Budget, BudgetKind
from poller.core.outbox import DAY, MIN_EVENT_RETENTION, MIN_JOB_RETENTION
from poller.core.overdue import OverduePolicy
from poller.core.state import LifecyclePolicy
from poller.runtime.address import DEFAULT_ADDRESS
from poller.settings.base import EnvSettings, setting
from poller.settings.durations import Duration, at_least
from poller.settings.money import CostFactor, Dollars, Percentages
from poller.settings.overdue import OverdueLimit
from poller.settings.time_of_day import TimeOfDay
from poller.settings.types import (
    Address,
    ApiKey,
    BaseUrl,
    CertificateFile,
    HostNames,
    JobIds,
    JobUrl,
    ListPages,
    LogFormat,
    LogLevel,
    Namespace,
    Patterns,
    ProxyUrl,
    RetryDelays,
    SecretUrl,
    SinkNames,
    StorePath,
    Token,
    tls_rule,
)

PREFIX: Final = "POLLER_"
MIN_MONTHLY_RETENTION: Final = 40 * DAY
"""Seconds: the sum of a month needs its jobs, and a late cost comes a week after their end."""
MIN_HEARTBEAT_INTERVAL: Final = 15.0
"""Seconds: Healthchecks.io ignores more than 5 requests a minute."""


class Settings(EnvSettings):
    """The settings of the daemon; each sink has settings of its own."""

    api_key: ApiKey | None = setting(
        None, "The Sutro API key, sk_...; required", validation_alias="SUTRO_API_KEY"
    )
    allow_http: bool = setting(
        "off",
        "Allow URLs without TLS (http and smtp) for the API, sinks and heartbeats on other hosts",
    )
    api_url: BaseUrl = setting(
        "https://api.sutro.sh",
        "Base URL of the Sutro API; a path in it is kept",
        validation_alias="SUTRO_API_URL",
    )
    request_timeout: Duration = setting(
        "30s", "How long one request to the API may take before it counts as failed", gt=0
    )
    ca_file: CertificateFile | None = setting(
        None, "PEM file of CA certificates to trust instead of the system's"
    )
    proxy: ProxyUrl | None = setting(
        None,
        "URL of the proxy for all requests; if not set, HTTPS_PROXY, HTTP_PROXY, ALL_PROXY apply",
    )

    job_ids: JobIds = setting((), "IDs of the jobs to watch")
    jobs_file: Path | None = setting(
        None, "File of job IDs to watch, one per line, # starts a comment; re-read when it changes"
    )

    exit_when_done: bool = setting(
        "off", "Exit with code 0 when all jobs have ended and no event is waiting for delivery"
    )

    discover: bool = setting("off", "Watch all jobs of the account, not only the configured ones")
    discover_name: str = setting(
        "*", "Discover only jobs whose name matches this pattern, with * and ? as wildcards"
    )
    discover_model: str = setting(
        "*", "Discover only jobs whose model matches this pattern, with * and ? as wildcards"
    )
    discover_max_age: Duration = setting(
        "7d", "Discover only jobs that were created within this time", gt=0
    )
    discover_interval: Duration = setting(
        "30s", "How often the job list is read to discover new jobs", gt=0
    )

    min_interval: Duration = setting("2s", "The shortest interval between two polls of a job", gt=0)
    max_interval: Duration = setting(
        "30s", "The longest interval between two polls of a job; intervals grow with its age", gt=0
    )
    interval_factor: float = setting(
        "0.6", "Multiplies all polling intervals: twice as much sends half as many requests", gt=0
    )
    requests_per_minute: float = setting(
        "120", "Maximum number of requests to the API per minute", gt=0
    )
    concurrency: int = setting(
        "16", "Maximum number of concurrent requests to the API, 1 to 256", ge=1, le=256
    )

    list_pages: ListPages = setting(
        "auto",
        "auto polls several due jobs with one page of the job list when that saves requests;"
        " off polls each job separately",
    )

    settle_timeout: Duration = setting(
        "30s", "How long the event for an ended job waits for its last fields", gt=0
    )
    not_found_grace: Duration = setting(
        "10m", "How long the API may return 404 for a new job before it is reported missing", gt=0
    )
    event_id_namespace: Namespace = setting(
        "sutro", "Part of every event ID; if you change it, all events get new IDs"
    )
    overdue_queued: OverdueLimit = setting(
        "auto",
        "Report a job that has been queued for this long; auto: three times as long as 95 % of the"
        " jobs like it, 10m at least; off reports none",
    )
    overdue_running: OverdueLimit = setting(
        "auto",
        "Report a job that has run for this long; auto: three times as long as 95 % of the jobs"
        " like it, 10m at least; off reports none",
    )
    cost_over_estimate: CostFactor = setting(
        "1.2",
        "Report an ended job that cost more than this many times its estimate, 1 at least; off"
        " reports none",
    )
    budget_daily: Dollars | None = setting(
        None, "US dollars that jobs may cost per day, in the time zone of TZ"
    )
    budget_monthly: Dollars | None = setting(
        None, "US dollars that jobs may cost per month, in the time zone of TZ"
    )
    budget_models: Patterns = setting(
        (), "Count only jobs whose model matches one of these patterns; ! excludes"
    )
    budget_thresholds: Percentages = setting(
        "50%,80%,100%", "Parts of a budget that are reported when they are spent"
    )

    sinks: SinkNames = setting(
        "log",
        "Sinks that receive events; if not set, log, and each built-in sink whose required settings"
        " are set",
    )
    job_url: JobUrl | None = setting(
        None, "URL of a job's page, with {job_id} in it, for the links in messages"
    )

    daily_report: TimeOfDay | None = setting(
        None,
        "Time of day of the daily report, such as 08:00, in the time zone of TZ",
    )

    retry_schedule: RetryDelays = setting(
        "5s,30s,2m,5m,15m,1h,2h,4h,6h",
        "Delays after each failed attempt of a delivery, one day at most; the last one repeats",
    )

    store: StorePath = setting(
        ...,
        "Path of the database, or memory:; if not set, state.db in $STATE_DIRECTORY, else in"
        " sutro-poller in $XDG_STATE_HOME or ~/.local/state",
    )
    allow_network_store: bool = setting("off", "Allow a database on a network file system")

    retention_delivered: Annotated[Duration, at_least(MIN_EVENT_RETENTION)] = setting(
        "7d", "How long delivered events are kept, to be listed and replayed, 1d at least"
    )
    retention_dead: Duration = setting(
        "30d", "How long dead letters are kept, to be listed and replayed", gt=0
    )
    retention_jobs: Annotated[Duration, at_least(MIN_JOB_RETENTION)] = setting(
        "400d",
        "How long jobs are kept after their last change, 7d at least; watched jobs always are",
    )

    listen: Address = setting(
        DEFAULT_ADDRESS,
        "Address of the HTTP API: host:port, unix:/path/of/socket, or off; an address that other"
        " hosts can reach serves only probes, metrics and the version unless a token is set",
    )
    listen_token: Token | None = setting(
        None, "Token that clients of the HTTP API must send as Authorization: Bearer"
    )
    allowed_hosts: HostNames = setting(
        (), "Host names that requests to the HTTP API may use besides localhost and IP addresses"
    )
    metrics_listen: Address = setting(
        "off",
        "Address of a second listener that serves only /metrics: host:port, unix:/path/of/socket,"
        " or off",
    )

    heartbeat_url: SecretUrl | None = setting(
        None, "URL of a monitoring service that gets a GET request while the daemon works"
    )
    heartbeat_interval: Annotated[Duration, at_least(MIN_HEARTBEAT_INTERVAL)] = setting(
        "1m", "How often the monitoring service gets a request, 15s at least"
    )

    log_level: LogLevel = setting(
        "info",
        "Lowest level that is logged: debug, info, warning or error; events are always logged",
    )
    log_format: LogFormat = setting(
        "auto", "json, console, or auto: console on a terminal and json elsewhere"
    )

    @property
    def lifecycle_policy(self) -> LifecyclePolicy:
        """When an ended job is settled, a job missing or overdue, and a cost over its estimate."""
        return LifecyclePolicy(
            settle_timeout=self.settle_timeout,
            not_found_grace=self.not_found_grace,
            cost_over_estimate=self.cost_over_estimate,
            overdue=OverduePolicy(queued=self.overdue_queued, running=self.overdue_running),
        )

    @field_validator("api_url", "heartbeat_url")
    @classmethod
    def _reject_plain_http(
        cls, url: str | SecretStr | None, info: ValidationInfo
    ) -> str | SecretStr | None:
        text = url.get_secret_value() if isinstance(url, SecretStr) else url or ""
        if (rule := tls_rule(text)) and not info.data.get("allow_http", True):
            raise ValueError(rule)
        return url

    @field_validator("discover")
    @classmethod
    def _reject_exit_when_done(cls, discover: bool, info: ValidationInfo) -> bool:
        if discover and info.data.get("exit_when_done"):
            raise ValueError("cannot be combined with POLLER_EXIT_WHEN_DONE")
        return discover

    @field_validator("list_pages")
    @classmethod
    def _require_for_discovery(cls, list_pages: str, info: ValidationInfo) -> str:
        if list_pages == "off" and info.data.get("discover"):
            raise ValueError("must be auto if POLLER_DISCOVER is on: it reads the job list")
        return list_pages

    @field_validator("retention_jobs")
    @classmethod
    def _require_month(cls, retention: float, info: ValidationInfo) -> float:
        if info.data.get("budget_monthly") and retention < MIN_MONTHLY_RETENTION:
            raise ValueError("must be 40d or more if POLLER_BUDGET_MONTHLY is set")
        return retention

    @field_validator("max_interval")
    @classmethod
    def _require_min_interval(cls, longest: float, info: ValidationInfo) -> float:
        if longest < info.data.get("min_interval", 0.0):
            raise ValueError("must not be less than POLLER_MIN_INTERVAL")
        return longest

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budgets that are set."""
        limits = {BudgetKind.DAILY: self.budget_daily, BudgetKind.MONTHLY: self.budget_monthly}
        return tuple(
            Budget(
                kind=kind,
                limit=limit,
                thresholds=self.budget_thresholds,
                models=self.budget_models,
            )
            for kind, limit in limits.items()
            if limit is not None
        )
