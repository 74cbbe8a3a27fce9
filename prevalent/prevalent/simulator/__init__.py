"""A batched, table-driven simulator of Matterport3D navigation graphs (Anderson et al., CVPR 2018).

Pure numpy and SciPy: no C++ build, no OpenGL, no images.
"""

from .geometry import NUM_VIEWS, Camera
from .graph import Graphs, SimulatorError
from .simulator import Navigable, Simulator

__all__ = ["NUM_VIEWS", "Camera", "Graphs", "Navigable", "Simulator", "SimulatorError"]
