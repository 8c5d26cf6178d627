"""What a worker has spent of its examples' privacy in all cycles: in memory, or in its state folder."""

from pathlib import Path

from fedplan.client.cycle.private import replace_file
from fedplan.errors import PrivateStateError
from fedplan.federation.privacy import ExamplePrivacy


class ExampleLedger:
    """A sum that only grows. It is written to the disk before the report is sent that it is charged for.

    Attributes:
        total: what was spent so far.
    """

    def __init__(self, path: Path | None) -> None:
        """A ledger; nothing is read yet.

        Args:
            path: its file; without one it lasts as long as this object.
        """
        self._path = path
        self.total = ExamplePrivacy()

    def open(self) -> None:
        """Reads what the file has. Whoever has opened the worker's `PrivateState` is alone with it.

        Raises:
            PrivateStateError: it cannot be read.
        """
        if self._path is None or not self._path.exists():
            return
        try:
            self.total = ExamplePrivacy.from_json(self._path.read_bytes())
        except (OSError, ValueError) as error:
            raise PrivateStateError(
                f"what was spent of the examples' privacy cannot be read from {self._path} ({error}). "
                "Restore it from a copy. To move it away begins to count anew: the ε of both adds up"
            ) from error

    def charge(self, spent: ExamplePrivacy) -> None:
        """Adds to it.

        Raises:
            PrivateStateError: it cannot be written; then nothing may be reported.
        """
        total = self.total + spent
        if self._path is not None:
            try:
                replace_file(self._path, total.to_json().encode())
            except OSError as error:
                raise PrivateStateError(
                    f"what is spent of the examples' privacy cannot be written to {self._path}, so nothing "
                    f"was reported: {error}"
                ) from error
        self.total = total
