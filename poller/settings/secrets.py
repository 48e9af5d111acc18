"""The secrets in settings: which values are secret, and their texts for redaction."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from poller.runtime.http_values import redact_url
from poller.runtime.redaction import MASK
from poller.settings.sources import SourcedValue

SECRET_PATH_CHARS: Final = 8
"""A path of a secret URL is a secret by itself if it has at least so many characters."""


def holds_secret(annotation: object) -> bool:
    """Return whether values of a type hold a SecretStr."""
    return annotation is SecretStr or any(map(holds_secret, get_args(annotation)))


def mask(value: SourcedValue) -> str:
    """Return the text of a setting for display."""
    if not value.is_secret or not value.text:
        return value.text
    return redact_url(value.text) if "://" in value.text else MASK


def secret_texts(value: object) -> Iterator[str]:
    """Yield the text of every SecretStr in a model, a tuple or a mapping."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel | Mapping):
        items = value if isinstance(value, BaseModel) else value.items()
        for _, item in items:
            yield from secret_texts(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from secret_texts(item)


def texts_to_redact(models: Iterable[BaseModel], proxies: Iterable[str]) -> tuple[str, ...]:
    """Return all secrets of settings with their parts, and the proxy URLs that have a password."""
    texts = [text for model in models for text in secret_texts(model)]
    urls = [url for url in proxies if "@" in url]
    parts = [part for text in texts for part in text.split()]
    return (*texts, *parts, *urls, *(path for text in texts for path in _secret_paths(text)))


def _secret_paths(secret: str) -> Iterator[str]:
    """Yield the path of a secret URL with its query, and alone: they are its secret part."""
    url = urlsplit(secret)
    if not url.netloc:
        return
    for path in (url._replace(scheme="", netloc="").geturl(), url.path):
        if len(path) >= SECRET_PATH_CHARS:
            yield path
