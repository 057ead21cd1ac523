"""The record of a run: its format, writing, reading, and the cache made again from it."""
