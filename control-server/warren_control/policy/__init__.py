"""The policy language: read, check, compile. Pure values; knows no database, no transport and no API."""
