"""The replicated state machine: pure and deterministic. See machine.py for the two entry points."""
