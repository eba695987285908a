"""The pinned real programs of the lab: built or unpacked once, cached by version.

``tools.ensure(("cluster", "wireguard"), progress).path("kubelet")``
"""

from warren_lab.tools.catalog import DEFAULT_GROUPS, GROUPS, STOCK
from warren_lab.tools.progress import Printer, Progress, State, Step
from warren_lab.tools.toolbox import Toolbox, ensure

__all__ = ["DEFAULT_GROUPS", "GROUPS", "STOCK", "Printer", "Progress", "State", "Step", "Toolbox", "ensure"]
