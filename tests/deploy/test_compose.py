"""deploy/compose has nginx as deploy/nginx.conf has it, but for the names of its own services."""

from pathlib import Path

DEPLOY = Path(__file__).parents[2] / "deploy"

OWN = {
    "server 127.0.0.1:5000;": "server grid-1:5000;",
    "server 127.0.0.1:5001;": "server grid-2:5000;",
    "server_name grid.example;": "server_name _;",
    "access_log access.log no_query;": "access_log /dev/stdout no_query;",
}


def directives(path):
    """The lines that are no comments."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def test_nginx_is_that_which_is_tested():
    expected = [OWN.get(line, line) for line in directives(DEPLOY / "nginx.conf")]
    assert sum(line in OWN.values() for line in expected) == len(OWN)
    assert directives(DEPLOY / "compose" / "nginx.conf") == expected
