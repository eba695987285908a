"""Codecs and state machines of every protocol. No I/O, no clock, no randomness, no log."""

__version__ = "0.1.0"
