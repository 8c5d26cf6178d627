"""A PostgreSQL of our own, in a temporary folder: it is started, killed and started again as a test likes.

It runs as another user where the tests run as root, which PostgreSQL refuses.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

_USERS = ("postgres", "nobody")


def _binaries():
    """The folder of its programs; Debian has them in no PATH."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(versions, key=lambda path: int(path.parent.name), default=None)


BINARIES = _binaries()
HAS_DRIVER = importlib.util.find_spec("asyncpg") is not None

needs_postgresql = pytest.mark.skipif(
    BINARIES is None or not HAS_DRIVER,
    reason="PostgreSQL is not installed (apt-get install postgresql)"
    if BINARIES is None
    else "asyncpg is not installed (the extra fedplan[postgres])",
)


class Cluster:
    """A PostgreSQL server and its data; `url` is that of its first database."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"postgresql://fedplan@127.0.0.1:{self.port}/postgres"
        self.folder = Path(tempfile.mkdtemp(prefix="fedplan-postgresql-"))
        self._server = None
        self._as = {}
        if os.geteuid() == 0:
            user = next(user for name in _USERS if (user := _find(name)) is not None)
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._run("initdb", "-U", "fedplan", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def start(self):
        """Starts it; after a kill the processes of before may still be there for a moment."""
        # what a process wrote outlives it: only the machine's power would need fsync
        options = ("-k", str(self.folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off")
        with self._log.open("ab") as log:
            for _ in range(300):
                self._server = subprocess.Popen(
                    [BINARIES / "postgres", "-D", self._data, "-p", str(self.port), *options],
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    **self._as,
                )
                if self._is_ready():
                    return
        raise AssertionError(f"PostgreSQL does not start: {self._log.read_text(errors='replace')[-2000:]}")

    def _is_ready(self):
        while self._server.poll() is None:
            asked = subprocess.run(
                [BINARIES / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
            )
            if asked.returncode == 0:
                return True
            time.sleep(0.05)
        time.sleep(0.05)
        return False

    def kill(self):
        """As a crash of the machine's other half: its processes end when they see that the first is gone."""
        self._end(signal.SIGKILL)

    def stop(self, mode="fast"):
        """In order: ``smart``, ``fast`` (connections are told), or ``immediate`` (they are cut)."""
        self._end({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])

    def _end(self, number):
        self._server.send_signal(number)
        self._server.wait(timeout=60)

    def remove(self):
        """Ends it, and deletes its data."""
        if self._server is not None and self._server.poll() is None:
            self.kill()
        for _ in range(100):  # its processes may still write
            with contextlib.suppress(OSError):
                shutil.rmtree(self.folder)
                return
            time.sleep(0.05)

    @property
    def _data(self):
        return self.folder / "data"

    @property
    def _log(self):
        return self.folder / "log"

    def _run(self, program, *arguments):
        subprocess.run(
            [BINARIES / program, "-D", self._data, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
            **self._as,
        )


@contextlib.contextmanager
def cluster():
    """A running PostgreSQL, which is gone afterwards."""
    made = Cluster()
    try:
        made.start()
        yield made
    finally:
        made.remove()


def _find(name):
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None
