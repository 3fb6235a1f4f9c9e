"""Data that improve data: each command of `rlcap curate` reads a data set and writes rows of another one."""
