"""`python -m fedplan` is `fedplan`, also where the command is not on the PATH."""

from fedplan.cli.main import run

run()
