"""Connections: uvicorn's protocols with bounds on what one peer, and all together, can make the grid hold."""
