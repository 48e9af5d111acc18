"""One concept has one word: those of an earlier vocabulary do not come back."""

import ast
import re
from typing import Final

import pytest

from tests.docs.markdown import PAGES, ROOT

OLD_NAMES: Final = (
    # Modules, and what they called things.
    r"premises|doorways?|doorman|doors?|desks?|rosters?|ledgers?|lanes?|agendas?|bells?|house",
    r"prose|discreet|vitals|pulses?|turnstile|overheard|onlookers?|surveyor|newcomers|glimpse",
    r"estranged|is_estranged|inquiries|egress|a_test_event|try_once|of_trouble|tell_resent",
    r"class (?:Journal|Finds|Additions|Hearing|Leaf|Sheet|Sight|Sighting|Verdict|Standing|Fate)",
    r"class (?:Places|Found|Reading|Live|Output|Ticket|Repeats|KeyMark|Presence|Skew)",
    r"class (?:Terms|Life|Script|Rules|Remark|NoJob|Transition|Origin|Watch|Schedule|Trouble)",
    r"class (?:Counts|Spread|Breaker|Batch|SinkState|Http|Answer|Egress|Environment|Strict|Moment)",
    r"def (?:cast|strike|shown|clean|stands|rfc3339|beat_on|forgive|prose|nobody)",
    r"Refused|Throttled|MalformedAnswer|TooLarge|AddressTaken|StoreRefused|Unmatched|NoAnswer",
    # Settings, JSON, metrics, problem types.
    r"POLLER_LIST(?!_|EN)|POLLER_NAMESPACE|POLLER_DISCOVER_SINCE|POLLER_LISTEN_HOSTS|door\.sock",
    r"is_well|is_taken|heard_at|obstacles?|troubles?",
    r"(?<!event_)loop_lag_seconds|end_lag_seconds|end_visibility_delay_seconds|cost_usd_total",
    r"ended_jobs_total|api_last_answer_timestamp_seconds|(?<!poll_)interval_stretch_ratio",
    r"(?<!api_)requests_total|polls_total|deliveries_total|outbox_pending",
    r"foreign-origin|foreign-host|not-json|too-slow",
)
"""What is not to be found in the code, the documentation and the OpenAPI document."""

OLD_WORDS: Final = (
    r"answers?|answered|unanswered|told|tells?|hears?|heard|asks?|asked|parted by|old news|its kin",
    r"unless told|not refused|refuses the key|key is refused|refused key|needs? a person",
    r"mends?|look at a job|looks at jobs|who may|whoever",
    r"refused (?:with|jobs?)|is refused",
)
"""What is not to be found where people read: metaphors, and other words for one thing."""

OLD_VERBS: Final = ("Give", "Gives", "Say", "Says", "Tell", "Tells", "Let", "Lets", "Whether")
"""How no docstring begins: it says what the caller gets, or what happens."""

CODE: Final = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("poller/**/*.py"))
OPENAPI: Final = "poller/api/openapi.json"


def found(patterns: tuple[str, ...], path: str, *, flags: int = 0) -> list[str]:
    """Return each place of a file where one of some words stands."""
    word = re.compile(rf"(?<![\w]|[-])(?:{'|'.join(patterns)})(?![\w])", flags)
    lines = (ROOT / path).read_text("utf-8").splitlines()
    return [f"{path}:{number}: {it}" for number, it in enumerate(lines, 1) if word.search(it)]


@pytest.mark.parametrize("path", [*CODE, *PAGES, "CONTRIBUTING.md", OPENAPI])
def test_old_names_are_gone(path):
    """Code, documentation and the OpenAPI document use the names of this version alone."""
    old = found(OLD_NAMES, path)

    assert not old, "\n".join(old)


@pytest.mark.parametrize("path", [*PAGES, "CONTRIBUTING.md", OPENAPI])
def test_people_read_the_words_of_the_field(path):
    """What people read says poll, response, reject and report, and has no metaphors."""
    old = found(OLD_WORDS, path, flags=re.IGNORECASE)

    assert not old, "\n".join(old)


@pytest.mark.parametrize("path", CODE)
def test_docstrings_say_what_the_caller_gets(path):
    """No docstring begins with give, say, tell, let or whether."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented)]

    assert not [text for text in texts if text and text.split()[0].rstrip(",.:") in OLD_VERBS]
