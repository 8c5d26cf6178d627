"""The dashboard at `/`: pages made on the server, which show what the API tells and do what it does.

Nothing of a visitor is kept in the process: who is signed in stands in a sealed cookie, so any replica
answers any request. Pages know no path of their own; their links are relative, and all pages are at one
depth, so the grid may stand below any path of a proxy.
"""
