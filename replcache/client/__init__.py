"""The Python client. Imports neither the server nor the state machine; see aio.py and blocking.py."""
