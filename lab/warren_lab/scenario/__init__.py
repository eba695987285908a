"""Two clusters behind NAT and a laptop in a café: the world that demo, tests and benchmarks share."""

from warren_lab.scenario.mesh import Member, MeshOfTwo
from warren_lab.scenario.world import World

__all__ = ["Member", "MeshOfTwo", "World"]
