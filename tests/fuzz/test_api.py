"""schemathesis over a published document: which answers are faults. It is in .venv-fuzz alone."""

import contextlib
import http.server
import json
import threading
import time

import pytest

from tests.fuzz.api import ApiRun, try_api, try_document

DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "made", "version": "1"},
    "paths": {
        "/number": {
            "get": {
                "operationId": "number",
                "responses": {
                    "200": {
                        "description": "A number.",
                        "content": {"application/json": {"schema": {"type": "integer"}}},
                    }
                },
            }
        }
    },
}


def test_operations_without_success_are_named():
    statuses = {"GET /a 200": 1, "GET /a 400": 2, "POST /b 404": 3, "GET /c 304": 1}
    assert ApiRun(7, 0, statuses, 0.1, "GET /a").never_succeeded == ("GET /c", "POST /b")


@contextlib.contextmanager
def server(status, body, seconds=0.0):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/openapi.json":
                self.reply(200, DOCUMENT)
            else:
                time.sleep(seconds)
                self.reply(status, body)

        def refuse(self):
            self.reply(405, {})

        def reply(self, status, body):
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_arguments):
            pass

    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "QUERY"):
        setattr(Handler, f"do_{method}", Handler.refuse)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_address[1]}"
        made.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "seconds", "faults"),
    [(200, 1, 0.0, 0), (500, 1, 0.0, 1), (200, "one", 0.0, 1), (200, 1, 1.1, 1), (404, 1, 0.0, 1)],
    ids=["described", "a 500", "another type", "late", "another status"],
)
def test_what_the_document_does_not_say_is_a_fault(status, body, seconds, faults, tmp_path):
    pytest.importorskip("schemathesis", reason="it is in .venv-fuzz alone")
    with server(status, body, seconds) as url:
        run = try_document(url, 1, 1, tmp_path / "faults")
    assert (run.faults >= 1) == bool(faults)
    assert (tmp_path / "faults" / "api-1.txt").exists() == bool(faults)


def test_a_grid_answers_as_its_document_says(tmp_path):
    pytest.importorskip("schemathesis", reason="it is in .venv-fuzz alone")
    run = try_api(500, 3, tmp_path)
    assert run.faults == 0
    assert run.requests > 500
    assert "POST /model-centric/report" not in run.never_succeeded
