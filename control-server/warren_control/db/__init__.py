"""Durable state: tables, their migrations, and the repository that reads and writes records."""
