"""The groups of commands of `warren`, one module each."""
