"""What is opened is closed by who opened it: the `with` half of every class that has `close`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import ExitStack
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
    """Close one after another, also when one of them fails to; its error is raised at the end."""
    with ExitStack() as each:
        for one in reversed(list(opened)):
            each.callback(one.close)
