"""The server: hosts models and Plans, runs cycles, averages what workers report."""
