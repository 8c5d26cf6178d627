"""A real nginx, run with the project's configuration."""

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextlib.contextmanager
def nginx(folder, grids, tls=""):
    """nginx with the project's configuration, but for addresses and folders; yields its address.

    Args:
        folder: for its files.
        grids: the addresses of two grids.
        tls: directives for TLS; none for plain HTTP.
    """
    port = _free_port()
    text = CONFIGURATION.read_text()
    for old, new in {
        "listen 8080;": f"listen 127.0.0.1:{port}{' ssl' if tls else ''};\n{tls}",
        "server 127.0.0.1:5000": f"server {grids[0]}",
        "server 127.0.0.1:5001": f"server {grids[1]}",
        "access_log access.log": f"access_log {folder}/access.log",
        "http {": "http {\n"
        + "".join(
            f"{name}_temp_path {folder}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ),
        "worker_connections 20000": "worker_connections 500",
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text)
    main = f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;"
    with subprocess.Popen([NGINX, "-c", str(folder / "nginx.conf"), "-g", main]) as running:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                assert running.poll() is None, (folder / "error.log").read_text()
                time.sleep(0.02)
            yield f"127.0.0.1:{port}"
        finally:
            running.send_signal(signal.SIGTERM)
