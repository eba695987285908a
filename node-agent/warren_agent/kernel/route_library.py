"""The part of pyroute2 that the agent needs.

The package's own front door loads its databases, servers and every other protocol: two and a half times
the time and six megabytes more. Its parts are loaded past it here, and the door is left as it was found.
"""

from __future__ import annotations

import importlib.util
import sys
import types

_PACKAGE = "pyroute2"

_known = sys.modules.get(_PACKAGE)
if _known is None:
    _spec = importlib.util.find_spec(_PACKAGE)
    assert _spec is not None
    _bare = types.ModuleType(_PACKAGE)
    _bare.__spec__ = _spec
    _bare.__path__ = list(_spec.submodule_search_locations or ())
    sys.modules[_PACKAGE] = _bare

try:
    from pyroute2.iproute.linux import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError
finally:
    if _known is None:
        # Whoever asks for the whole package later gets it, with these parts in it.
        del sys.modules[_PACKAGE]

__all__ = ["IPRoute", "NetlinkError"]
