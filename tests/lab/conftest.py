"""Fixtures of several modules. A module that has a `world` of its own means that one."""

from support.stock_world import world

__all__ = ["world"]
