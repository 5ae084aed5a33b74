"""Linear algebra with NumPy's names and meaning, for one matrix or a batch of them, from standard ONNX operators.

What cannot be had: eigenvalues of matrices that are not symmetric, and anything else with complex results, as tensors
hold real numbers; `eig` and `eigvals` say so and tell the way around.
"""

from ravop.ops.linalg import diagonals, products, solvers
from ravop.ops.linalg.diagonals import *  # noqa: F403
from ravop.ops.linalg.products import *  # noqa: F403
from ravop.ops.linalg.solvers import *  # noqa: F403

__all__ = sorted([*diagonals.__all__, *products.__all__, *solvers.__all__])
