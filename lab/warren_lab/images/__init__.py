"""Images of the lab: Warren's own from their Containerfiles, and the small ones clusters and tests need.

``ensure(("control", "agent"), toolbox=…).reference("control")``
"""

from warren_lab.images.build import Images, ensure
from warren_lab.images.recipes import PRODUCTS, SMALL, SYSTEM
from warren_lab.images.store import ImageError

__all__ = ["PRODUCTS", "SMALL", "SYSTEM", "ImageError", "Images", "ensure"]
