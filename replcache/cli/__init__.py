"""The command line. Modules import what a command needs inside the command, so that each starts fast."""
