"""The exit codes of all verbs; those above 63 are those of sysexits.h."""

from typing import Final

OK: Final = 0
CRASHED: Final = 1
TROUBLE: Final = 1
MISUSE: Final = 2
UNREACHABLE: Final = 69
LOCKED: Final = 75
KEY_REFUSED: Final = 77
BAD_CONFIGURATION: Final = 78
