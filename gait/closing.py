"""What is opened is closed by who opened it: the `with` half of every class that has `close`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self


class Closing(ABC):
    """Something that is closed when its `with` block is left, for whatever reason."""

    @abstractmethod
    def close(self) -> None:
        """Free what is held; harmless the second time."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Closeable(Protocol):
    """Whatever can be closed."""

    def close(self) -> None:
        """Free what is held."""
        ...


def close_all(opened: Iterable[Closeable]) -> None:
    """Close one after another although one fails; the last error has the others as its context."""
    remaining = iter(opened)
    for one in remaining:
        try:
            one.close()
        finally:
            close_all(remaining)
