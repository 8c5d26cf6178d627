"""What travels between peers and the grid: HTTP, WebSocket, and what bounds them."""
