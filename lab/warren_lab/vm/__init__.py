"""A small virtual machine with Debian's kernel, for what the kernel of this machine lacks."""

from warren_lab.vm.image import Image, ensure_image
from warren_lab.vm.machine import Finished, run

__all__ = ["Finished", "Image", "ensure_image", "run"]
