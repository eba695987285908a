"""The admin API below `/api/v1`: JSON in, JSON out, errors as problem documents."""
