"""Caching patterns on top of the client: fills that cannot lose a race, and what is built on them.

fill.py is the primitive that the other modules share. Imports the client and nothing of the server.
"""
