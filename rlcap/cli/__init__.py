"""The command line `rlcap`: one file for each command."""
