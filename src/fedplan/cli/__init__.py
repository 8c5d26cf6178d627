"""The `fedplan` command."""
