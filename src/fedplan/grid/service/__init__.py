"""The grid's use cases, one module each. They know nothing of HTTP or WebSockets."""
