"""Classical learners as graphs: each takes samples X (n, d) and targets y, and gives a model with `predict(X)`.

They are made of the catalogue's operators; those that iterate do so in one loop, until nothing is gained any more.
"""

from typing import TYPE_CHECKING

from ravop.ops.learning import bayes, classifiers, clusters, linear, neighbours, trees
from ravop.ops.learning.bayes import *  # noqa: F403
from ravop.ops.learning.classifiers import *  # noqa: F403
from ravop.ops.learning.clusters import *  # noqa: F403
from ravop.ops.learning.linear import *  # noqa: F403
from ravop.ops.learning.neighbours import *  # noqa: F403
from ravop.ops.learning.trees import *  # noqa: F403

if not TYPE_CHECKING:  # a type checker takes what the stars bring; sums of lists it does not follow
    __all__ = [
        name
        for family in (bayes, classifiers, clusters, linear, neighbours, trees)
        for name in family.__all__
    ]
