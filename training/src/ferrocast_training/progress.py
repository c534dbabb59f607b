"""What the terminal shows: a line a finding, and a bar where something takes long."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

NAME_WIDTH = 10


class Bar:
    """A bar that is on the screen; nothing at all where the output is no terminal."""

    def __init__(self, progress: Progress, text: str, total: int) -> None:
        """Begin at nought of `total`."""
        self._progress = progress
        self._task = progress.add_task(text, total=total)

    def at(self, done: int, text: str) -> None:
        """Show that `done` are done, and what they came to."""
        self._progress.update(self._task, completed=done, description=text)


class Terminal:
    """Lines and bars, each with the name of its step before it."""

    def __init__(self, console: Console | None = None) -> None:
        """Write to `console`, standard output by default."""
        self.console = console or Console()

    def say(self, step: str, text: str) -> None:
        """Print one line as it is, without wrapping or markup: lines are for grep as much as for people."""
        self.console.out(f"{step:<{NAME_WIDTH}}{text}", highlight=False)

    @contextmanager
    def bar(self, step: str, text: str, total: int) -> Iterator[Bar]:
        """Show a bar for as long as the block runs."""
        columns = (TextColumn(f"{step:<{NAME_WIDTH}}{{task.description}}"), BarColumn(), MofNCompleteColumn())
        with Progress(
            *columns,
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        ) as progress:
            yield Bar(progress, text, total)
