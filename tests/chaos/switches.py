"""What is wrong with a service just now, as files in a folder: they outlast the process that obeys them."""

from pathlib import Path

CLOCK = "clock"  # seconds that its clock is ahead
REFUSE = "refuse"  # ClickHouse takes no insert
FORGET = "forget"  # ClickHouse takes inserts, and its answers are lost
LOST_ANSWER = "the answer was lost on its way"  # as the service logs it then
FORGOTTEN = "forgotten"  # events of each insert whose answer was lost: written by the service, a number a line


class Switches:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def set(self, name: str, value: float = 1) -> None:
        part = self.folder / f".{name}"
        part.write_text(str(value))
        part.replace(self.folder / name)  # whoever reads it sees all of it

    def clear(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def get(self, name: str) -> float:
        """0 when it isn't set."""
        try:
            return float((self.folder / name).read_text())
        except FileNotFoundError:
            return 0.0

    def note(self, name: str, value: int) -> None:
        with (self.folder / name).open("a") as file:
            file.write(f"{value}\n")

    def noted(self, name: str) -> list[int]:
        try:
            return [int(line) for line in (self.folder / name).read_text().splitlines()]
        except FileNotFoundError:
            return []
