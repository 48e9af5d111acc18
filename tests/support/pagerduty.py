"""PagerDuty's Events API v2 by its documentation, and the incidents that it keeps."""

import json
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

ROUTING_KEY: Final = "0123456789abcdef" * 2
SEVERITIES: Final = {"critical", "error", "warning", "info"}
MAX_BYTES: Final = 512_000


@dataclass
class PagerDuty:
    """Takes events, and keeps the key of every incident, by when it was opened, and the open ones.

    `log` has each accepted action with its key, `summaries` the last one of each key.
    """

    opened: list[str] = field(default_factory=list)
    unresolved: set[str] = field(default_factory=set)
    log: list[tuple[str, str]] = field(default_factory=list)
    summaries: dict[str, str] = field(default_factory=dict)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        """Respond to one event as documented."""
        body = await request.read()
        errors = find_errors(json.loads(body), len(body))
        if request.content_type != "application/json" or errors:
            message = "Event object is invalid"
            content = {"status": "invalid event", "message": message, "errors": errors}
            return web.json_response(content, status=400)
        self._apply(json.loads(body))
        return web.json_response({"status": "success", "message": "Event processed"}, status=202)

    def _apply(self, event: dict[str, Any]) -> None:
        """Open an incident unless its key has one; a resolution without one is dropped."""
        key = event["dedup_key"]
        self.log.append((event["event_action"], key))
        if event["event_action"] == "resolve":
            self.unresolved.discard(key)
            return
        self.summaries[key] = event["payload"]["summary"]
        if key not in self.unresolved:
            self.unresolved.add(key)
            self.opened.append(key)


def find_errors(event: dict[str, Any], size: int) -> list[str]:
    """Return what the documentation does not allow."""
    rules = {
        "Length of 'routing_key' is incorrect (should be 32 characters)": len(event["routing_key"])
        == 32,
        "'routing_key' is unknown": event["routing_key"] == ROUTING_KEY,
        "'event_action' is invalid": event["event_action"] in {"trigger", "resolve"},
        "'dedup_key' is invalid": 0 < len(event.get("dedup_key", "")) <= 255,
        "the event is too large": size <= MAX_BYTES,
    }
    if event["event_action"] == "trigger":
        payload = event.get("payload", {})
        rules |= {
            "'payload.summary' is invalid": 0 < len(payload.get("summary", "")) <= 1_024,
            "'payload.source' is missing": bool(payload.get("source")),
            "'payload.severity' is invalid": payload.get("severity") in SEVERITIES,
        }
    return [error for error, is_kept in rules.items() if not is_kept]
