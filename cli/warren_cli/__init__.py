"""The warren command for people."""
