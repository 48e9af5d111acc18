"""A disk that loses power, and every state in which it may be found.

The model. The content of a file is on the disk once fsync or fdatasync of it returned, its name
once that of its folder did. Any part of later changes may be there: a write, none of it, or some of
its 512-byte sectors; a new length without the bytes (then zeros) or with them; a new name, a
removed one, both or neither. What was written without a sync survives the end of a process, but not
a power loss. Bytes beside a write do not change, as SQLite assumes too
(https://www.sqlite.org/psow.html). `-shm` is never on the disk: SQLite recreates it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from tests.fault_injection.syscall_trace import Created, Removed, Resized, Step, Synced, Written

SECTOR: Final = 512
Image = dict[str, bytes]
"""The folder after the loss: the content of each file by its name."""


@dataclass(frozen=True, slots=True)
class Name:
    """A change of the file that a name refers to; None removes the name."""

    name: str
    file: int | None


@dataclass(frozen=True, slots=True)
class Extent:
    """A change of some bytes of a file."""

    file: int
    offset: int
    content: bytes

    @property
    def end(self) -> int:
        """The offset after the last byte."""
        return self.offset + len(self.content)

    def sectors(self) -> "Iterable[Extent]":
        """Split the write into the parts that lie in one sector each."""
        start = self.offset
        while start < self.end:
            stop = min(start - start % SECTOR + SECTOR, self.end)
            part = self.content[start - self.offset : stop - self.offset]
            yield Extent(self.file, start, part)
            start = stop


@dataclass(frozen=True, slots=True)
class Size:
    """A change of the length of a file."""

    file: int
    size: int


Change = Name | Extent | Size


@dataclass(slots=True)
class Content:
    """Names and files, with the changes applied so far."""

    names: dict[str, int] = field(default_factory=dict)
    files: dict[int, bytearray] = field(default_factory=dict)

    def copy(self) -> "Content":
        """Return an independent copy."""
        return Content(dict(self.names), {file: bytearray(old) for file, old in self.files.items()})

    def apply(self, change: Change) -> None:
        """Apply one change."""
        if isinstance(change, Name):
            self._rename(change)
        elif isinstance(change, Size):
            content = self.files.setdefault(change.file, bytearray())
            del content[change.size :]
            self.extend(change.file, change.size)
        else:
            self.extend(change.file, change.end)
            self.files[change.file][change.offset : change.end] = change.content

    def extend(self, file: int, size: int) -> None:
        """Extend a file with zeros to at least this size."""
        content = self.files.setdefault(file, bytearray())
        content.extend(bytes(max(0, size - len(content))))

    def image(self) -> Image:
        """Return the folder."""
        return {name: bytes(self.files.get(file, b"")) for name, file in self.names.items()}

    def _rename(self, change: Name) -> None:
        if change.file is None:
            self.names.pop(change.name, None)
        else:
            self.names[change.name] = change.file


@dataclass(slots=True)
class Disk:
    """One folder on a disk: durable content, and changes that are pending."""

    durable: Content = field(default_factory=Content)
    pending: list[Change] = field(default_factory=list)
    _names: dict[str, int] = field(default_factory=dict)
    _count: int = 0

    def apply_step(self, step: Step) -> None:
        """Apply one step."""
        if isinstance(step, Created):
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

    def image(self, random: Random, probability: float) -> Image:
        """Return a folder to which each pending change was applied with some probability."""
        content = self.durable.copy()
        for change in self.pending:
            if random.random() < probability:
                content.apply(change)
            elif isinstance(change, Extent) and probability > 0.0 and random.random() < 0.5:
                self._apply_sectors(content, change, random)
        return content.image()

    def _apply_sectors(self, content: Content, change: Extent, random: Random) -> None:
        """Apply some sectors of a write, with or without its new length."""
        probability = random.choice([0.0, 0.1, 0.5, 0.9])
        if random.random() < 0.5:
            content.extend(change.file, change.end)
        for part in change.sectors():
            if random.random() < probability:
                content.apply(part)

    def _make(self, name: str) -> None:
        if name not in self._names:
            self._count += 1
            self._names[name] = self._count
            self.pending.append(Name(name, self._count))

    def _sync(self, file: int | None) -> None:
        """Make the content of one file durable, or the names in the folder."""
        rest: list[Change] = []
        for change in self.pending:
            is_name = isinstance(change, Name)
            is_synced_here = is_name if file is None else not is_name and change.file == file
            if is_synced_here:
                self.durable.apply(change)
            else:
                rest.append(change)
        self.pending = rest
