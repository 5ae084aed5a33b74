"""The operator catalogue: one module per family; each operator is a few lines of ONNX.

To add one: write a function decorated `@operator` in its family's module and name it in that module's `__all__`.
Pure: operators only add nodes to the graph of their operands.
"""

from ravop.ops import arithmetic, compare, create, indexing, linalg, randomness, reduction, shaping
from ravop.ops.arithmetic import *  # noqa: F403
from ravop.ops.compare import *  # noqa: F403
from ravop.ops.create import *  # noqa: F403
from ravop.ops.indexing import *  # noqa: F403
from ravop.ops.linalg import *  # noqa: F403
from ravop.ops.randomness import *  # noqa: F403
from ravop.ops.reduction import *  # noqa: F403
from ravop.ops.shaping import *  # noqa: F403

__all__: list[str] = []
__all__ += arithmetic.__all__
__all__ += compare.__all__
__all__ += create.__all__
__all__ += indexing.__all__
__all__ += linalg.__all__
__all__ += randomness.__all__
__all__ += reduction.__all__
__all__ += shaping.__all__
