"""Linear algebra with NumPy's names and meaning, for one matrix or a batch of them, from standard ONNX operators.

What cannot be had: eigenvalues of matrices that are not symmetric, and anything else with complex results, as tensors
hold real numbers; `eig` and `eigvals` say so and tell the way around.
"""

from typing import TYPE_CHECKING

from ravop.ops.linalg import diagonals, einstein, least_squares, orthogonal, products, solvers, spectra
from ravop.ops.linalg.diagonals import *  # noqa: F403
from ravop.ops.linalg.einstein import *  # noqa: F403
from ravop.ops.linalg.least_squares import *  # noqa: F403
from ravop.ops.linalg.orthogonal import *  # noqa: F403
from ravop.ops.linalg.products import *  # noqa: F403
from ravop.ops.linalg.solvers import *  # noqa: F403
from ravop.ops.linalg.spectra import *  # noqa: F403

if not TYPE_CHECKING:  # a type checker takes what the stars bring; sums of lists it does not follow
    __all__ = [
        name
        for family in (diagonals, einstein, least_squares, orthogonal, products, solvers, spectra)
        for name in family.__all__
    ]
