"""A disk that loses power: what is on it, what may be, and every state in which it may be found.

The model. A file's content is on the disk once fsync or fdatasync of it returned, its name once
that of its folder did. Of everything since, any part may be there: each write or none of it, or
some of its 512-byte sectors; a file's new length without the bytes (then zeros) or with them; a
new name, a removed one, both or neither. What was written without a sync outlives the end of a
process, not that of the power. Bytes beside a write stay what they are, as SQLite assumes too
(https://www.sqlite.org/psow.html). `-shm` is never on the disk: SQLite makes it anew.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from tests.fault_injection.syscall_trace import Made, Removed, Resized, Step, Synced, Written

SECTOR: Final = 512
Image = dict[str, bytes]
"""A folder after the loss: the content of each file by its name."""


@dataclass(frozen=True, slots=True)
class Name:
    """A name begins to mean a file, or no file."""

    name: str
    file: int | None


@dataclass(frozen=True, slots=True)
class Extent:
    """Some bytes of a file become others."""

    file: int
    offset: int
    content: bytes

    @property
    def end(self) -> int:
        """Where the bytes end."""
        return self.offset + len(self.content)

    def sectors(self) -> "Iterable[Extent]":
        """Give the parts that a sector each of the file holds."""
        start = self.offset
        while start < self.end:
            stop = min(start - start % SECTOR + SECTOR, self.end)
            part = self.content[start - self.offset : stop - self.offset]
            yield Extent(self.file, start, part)
            start = stop


@dataclass(frozen=True, slots=True)
class Size:
    """A file becomes shorter or longer."""

    file: int
    size: int


Change = Name | Extent | Size


@dataclass(slots=True)
class Content:
    """Names and files, as far as changes have been made to them."""

    names: dict[str, int] = field(default_factory=dict)
    files: dict[int, bytearray] = field(default_factory=dict)

    def copy(self) -> "Content":
        """Give one that changes by itself."""
        return Content(dict(self.names), {it: bytearray(old) for it, old in self.files.items()})

    def apply(self, change: Change) -> None:
        """Make one change."""
        if isinstance(change, Name):
            self._rename(change)
        elif isinstance(change, Size):
            content = self.files.setdefault(change.file, bytearray())
            del content[change.size :]
            self.reach(change.file, change.size)
        else:
            self.reach(change.file, change.end)
            self.files[change.file][change.offset : change.end] = change.content

    def reach(self, file: int, size: int) -> None:
        """Make a file at least so long, with zeros."""
        content = self.files.setdefault(file, bytearray())
        content.extend(bytes(max(0, size - len(content))))

    def image(self) -> Image:
        """Give the folder that this is."""
        return {name: bytes(self.files.get(file, b"")) for name, file in self.names.items()}

    def _rename(self, change: Name) -> None:
        if change.file is None:
            self.names.pop(change.name, None)
        else:
            self.names[change.name] = change.file


@dataclass(slots=True)
class Disk:
    """One folder on a disk: what is durable, and what has been asked for since."""

    durable: Content = field(default_factory=Content)
    pending: list[Change] = field(default_factory=list)
    _names: dict[str, int] = field(default_factory=dict)
    _count: int = 0

    def take(self, step: Step) -> None:
        """Do one step."""
        if isinstance(step, Made):
            self._make(step.name)
        elif isinstance(step, Removed):
            del self._names[step.name]
            self.pending.append(Name(step.name, None))
        elif isinstance(step, Written):
            self.pending.append(Extent(self._names[step.name], step.offset, step.content))
        elif isinstance(step, Resized):
            self.pending.append(Size(self._names[step.name], step.size))
        elif isinstance(step, Synced):
            self._sync(self._names[step.name] if step.name else None)

    def found(self, random: Random, odds: float) -> Image:
        """Say how the folder may be found when each change has some odds to be on the disk."""
        content = self.durable.copy()
        for change in self.pending:
            if random.random() < odds:
                content.apply(change)
            elif isinstance(change, Extent) and odds > 0.0 and random.random() < 0.5:
                self._tear(content, change, random)
        return content.image()

    def _tear(self, content: Content, change: Extent, random: Random) -> None:
        """Put some sectors of a write on the disk, with or without the length that it gave."""
        odds = random.choice([0.0, 0.1, 0.5, 0.9])
        if random.random() < 0.5:
            content.reach(change.file, change.end)
        for part in change.sectors():
            if random.random() < odds:
                content.apply(part)

    def _make(self, name: str) -> None:
        if name not in self._names:
            self._count += 1
            self._names[name] = self._count
            self.pending.append(Name(name, self._count))

    def _sync(self, file: int | None) -> None:
        """Make durable what one file holds, or the folder with all names."""
        rest: list[Change] = []
        for change in self.pending:
            is_of_folder = isinstance(change, Name)
            is_meant = is_of_folder if file is None else not is_of_folder and change.file == file
            if is_meant:
                self.durable.apply(change)
            else:
                rest.append(change)
        self.pending = rest
