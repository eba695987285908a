"""Adapters of the kernel and of WireGuard programs, each behind a Protocol of `interfaces`."""
