"""Objects that go from one process to another, with their arrays in memory that both have."""

import mmap
import pickle
from multiprocessing.connection import Connection
from typing import Any

_ALIGNMENT = 64


class SharedMemory:
    """A piece of memory that this process and those that it forks later have in common.

    Args:
        size: bytes. The arrays of an object that needs more go through the pipe.
    """

    def __init__(self, size: int) -> None:
        self._memory = mmap.mmap(-1, max(size, mmap.PAGESIZE))

    def write(self, value: Any) -> bytes:
        """Puts the arrays of an object into the memory, over those of the one before.

        Args:
            value: what can be pickled.

        Returns:
            With this, `read` makes the object in any of the processes.
        """
        buffers: list[pickle.PickleBuffer] = []
        head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        places, end = list[tuple[int, int]](), 0
        for buffer in buffers:
            raw = buffer.raw()
            start = -(-end // _ALIGNMENT) * _ALIGNMENT
            end = start + raw.nbytes
            if end > len(self._memory):
                return pickle.dumps((pickle.dumps(value, protocol=5), ()))
            self._memory[start:end] = raw
            places.append((start, end))
        return pickle.dumps((head, places))

    def read(self, written: bytes) -> Any:
        """The object that was written. Its arrays are in the memory, until the next one is written."""
        head, places = pickle.loads(written)  # nosec B301  # of another process of this simulation
        view = memoryview(self._memory)
        return pickle.loads(head, buffers=[view[start:end] for start, end in places])  # nosec B301  # same

    def send(self, connection: Connection, value: Any) -> None:
        """Writes an object, and sends what leads to it."""
        connection.send_bytes(self.write(value))

    def receive(self, connection: Connection) -> Any:
        """The object that another process has sent.

        Raises:
            EOFError: the process has ended.
        """
        return self.read(connection.recv_bytes())
