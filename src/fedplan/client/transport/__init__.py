"""How a client reaches a grid: the calls, over HTTP and WebSocket."""
