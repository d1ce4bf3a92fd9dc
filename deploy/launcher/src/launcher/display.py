"""What a person sees while the stack starts and runs: a live table on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from launcher.supervisor import State

STYLES = {State.READY: "green", State.ENDED: "red", State.STARTING: "", State.WAITING: "dim", State.STOPPED: "dim"}


class Display:
    """Shows the start as it goes on, then every change as a line.

    Use it as a context manager around the start: the table is live inside.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._rows: dict[str, tuple[State, str]] = {}
        self._spinner = Spinner("dots")
        self._live: Live | None = None
        self._begun = time.monotonic()
        self._download_printed = 0.0

    def __enter__(self) -> Self:
        """Begin to show the start."""
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=10, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the terminal in order; changes are lines from here on."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def seconds(self) -> float:
        """Time since this display was made."""
        return time.monotonic() - self._begun

    def changed(self, name: str, state: State, note: str = "") -> None:
        """Show the new state of a part."""
        self._rows[name] = (state, note)
        if self._live is not None or state is State.WAITING:
            return
        self.say(f"{time.strftime('%H:%M:%S')}  {name}: {state}{f' ({note})' if state is State.READY else ''}")
        if state is State.ENDED:
            self.say(note)

    def download(self, done: int, total: int) -> None:
        """Show how far the download of Kafka's archives is."""
        self._rows["kafka"] = (State.STARTING, f"fetching archives, {done} of {total}")
        if self._live is None and (done in (0, total) or time.monotonic() - self._download_printed > 2):
            self._download_printed = time.monotonic()
            self.say(f"{time.strftime('%H:%M:%S')}  kafka: fetching archives, {done} of {total}")

    def say(self, text: str) -> None:
        """Write text as it is."""
        self._console.print(Text(text))

    def _table(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for name, (state, note) in self._rows.items():
            shown = Text(f"{state} {note}".rstrip().partition("\n")[0], style=STYLES[state])
            mark: RenderableType = (
                self._spinner if state is State.STARTING else Text("✓" if state is State.READY else " ")
            )
            table.add_row(mark, name, shown)
        return Group(Text(f"Starting the consent platform ({self.seconds:.0f} s)", style="bold"), table)
