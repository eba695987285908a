"""Typed views of the custom resources. Parsing reports all problems at once and modifies nothing."""
