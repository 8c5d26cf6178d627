"""`scripts/docs`: builds the site and checks it, or serves it."""

import argparse
import subprocess
import sys

from website import links, pages


def main() -> int:
    """Returns the exit code: 1 where a page has a fault."""
    parser = argparse.ArgumentParser(prog="scripts/docs", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="serve it on this machine")
    parser.add_argument("--port", type=int, default=8000, help="with --serve: the port; 8000 when absent")
    given = parser.parse_args()
    pages.gather()
    zensical = [sys.executable, "-m", "zensical"]
    config = ["--config-file", str(pages.CONFIG)]
    if given.serve:
        print("Run scripts/docs --serve again after a change of a page: it serves copies.", flush=True)
        address = f"127.0.0.1:{given.port}"
        return subprocess.call([*zensical, "serve", *config, "--dev-addr", address])  # nosec B603  # ours
    if code := subprocess.call([*zensical, "build", "--strict", "--clean", *config]):  # nosec B603  # ours
        return code
    faults = links.faults_of_site(pages.SITE)
    print("\n".join(faults) or f"The site is {pages.SITE}/index.html")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
