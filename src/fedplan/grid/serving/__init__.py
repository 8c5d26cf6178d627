"""The server: the socket, uvicorn, and several processes behind one port."""
