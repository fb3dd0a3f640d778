"""What commands print to."""

from __future__ import annotations

import rich.console
from rich.markup import escape


class Console(rich.console.Console):
    """A terminal; `:name:` in a path or a message stays what it is, and no emoji.

    Args:
        stderr: Print beside the results.
        highlight: Colour numbers and paths.
        soft_wrap: Leave long lines whole.
        width: Columns; None for the terminal's.
    """

    def __init__(
        self,
        *,
        stderr: bool = False,
        highlight: bool = True,
        soft_wrap: bool = False,
        width: int | None = None,
    ) -> None:
        super().__init__(
            stderr=stderr, highlight=highlight, soft_wrap=soft_wrap, width=width, emoji=False
        )

    def problem(self, words: object, kind: str = "Error") -> None:
        """Say what went wrong, on lines that can be copied."""
        self.print(f"[bold red]{kind}:[/] {escape(str(words))}", highlight=False, soft_wrap=True)
