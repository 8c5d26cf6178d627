"""What is done with a grid's tables and blobs by commands, beside a grid that runs or without one."""
