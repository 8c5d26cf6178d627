"""Hosts a model for handwritten digits on a grid, and serves the page on which browsers train it.

See README.md for how to start everything.
"""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # scikit-learn has no types
from torch import nn
from torch.nn.functional import cross_entropy

import fedplan

NAME, VERSION = "digits", "1.0.0"
FOLDER = Path(__file__).parent
PACKAGES = FOLDER / "node_modules"

FILES = {
    "/": (FOLDER / "index.html", "text/html"),
    "/style.css": (FOLDER / "style.css", "text/css"),
    "/app.js": (FOLDER / "app.js", "text/javascript"),
    "/view.js": (FOLDER / "view.js", "text/javascript"),
    "/tf-core.js": (PACKAGES / "@tensorflow" / "tfjs-core" / "dist" / "tf-core.js", "text/javascript"),
    "/syft.js": (PACKAGES / "@openmined" / "syft.js" / "dist" / "index.js", "text/javascript"),
}
"""What the page is made of, by path: the file and its type."""


def main() -> None:
    options = parse()
    if not PACKAGES.is_dir():
        raise SystemExit(f"The page needs syft.js and tfjs-core: run `npm ci` in {FOLDER} first.")
    host(options.url, options.token, options.pages)

    grid = options.url.replace("http", "ws", 1)
    data = {"/settings.json": {"url": grid, "model": NAME, "version": VERSION}, "/digits.json": digits()}
    content = {path: (file.read_bytes(), kind) for path, (file, kind) in FILES.items()}
    content |= {path: (json.dumps(value).encode(), "application/json") for path, value in data.items()}
    with ThreadingHTTPServer(("127.0.0.1", options.port), handler(content)) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


def host(url: str, token: str | None, pages: int) -> None:
    """Gives the grid a model, and two Plans: how to train it, and how to ask it what a digit is."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    images, labels = torch.zeros(4, 64), torch.zeros(4, dtype=torch.int64)
    names = [name for name, _ in model.named_parameters()]

    def predict(images: torch.Tensor, *params: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = torch.func.functional_call(
            model, dict(zip(names, params, strict=True)), images
        )
        return scores

    plans = {
        "training_plan": fedplan.training_plan(model, cross_entropy, example=(images, labels)),
        "prediction_plan": fedplan.trace(predict, images, *(p.detach() for p in model.parameters())),
    }
    with fedplan.ModelCentricFLClient(url, token) as grid:
        try:
            grid.host_federated_training(
                model,
                plans,
                client_config={
                    "name": NAME,
                    "version": VERSION,
                    "batch_size": 32,
                    "lr": 0.1,
                    "max_updates": 20,
                },
                # A cycle closes when all pages have reported, or after a minute when one has.
                server_config={"max_workers": pages, "max_diffs": pages, "min_diffs": 1, "cycle_length": 60},
            )
        except fedplan.errors.GridResponseError as error:
            if error.status != 409:
                raise
            print(f"'{NAME}' is hosted on {url} already, and will be trained further", flush=True)


def digits() -> dict[str, dict[str, object]]:
    """Images of 8 × 8 pixels from 0 to 1, and what they show: some to train on, some to test with."""
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).numpy()
    images, labels = (images / 16)[order].tolist(), labels[order].tolist()
    return {
        "train": {"images": images[:-200], "labels": labels[:-200]},
        "test": {"images": images[-200:], "labels": labels[-200:]},
    }


def handler(content: dict[str, tuple[bytes, str]]) -> type[BaseHTTPRequestHandler]:
    """Answers with what is in the table, and nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body, kind = content.get(self.path, (b"", ""))
            self.send_response(200 if body else 404)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing of each request."""

    return Handler


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:5000", help="the grid")
    parser.add_argument("--token", help="the grid's owner token, if it has one")
    parser.add_argument("--pages", type=int, default=1, help="how many pages train together (default 1)")
    parser.add_argument("--port", type=int, default=8080, help="where the page is served (default 8080)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
