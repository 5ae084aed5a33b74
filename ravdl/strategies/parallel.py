"""`DataParallel`: one training step whose batch comes in shards.

Each shard's forward and backward pass is made of ops of its own, from that shard and the weights alone. What is mixed
before the gradients are added up is what layers exchange by `train_shards`: a few numbers a channel.
"""

from __future__ import annotations

import ravop as R
from ravdl.neural_networks.forward import predict_in_shards
from ravdl.neural_networks.layers import Moment
from ravdl.neural_networks.means import added, shares, weighted
from ravdl.neural_networks.training import Measures, Recipe, State
from ravdl.strategies.shards import Shards
from ravop.graph import Op


def step_in_shards(
    recipe: Recipe, state: State, frozen: dict[str, Op], batch: Shards, mixed: bool
) -> tuple[State, Measures]:
    """One step of gradient descent on the batch that the shards make up, as `Recipe.step` does with it whole.

    `mixed`: layers that mix the examples of a batch see all shards, see `predict_in_shards`.
    """
    graph = state.step.graph
    names = recipe.trained
    sizes = [shard.size for shard in batch]
    parts = shares(sizes)
    # Each shard has ops of its own for the weights, so that each gets gradients of its own, which are added up last.
    own = [{name: graph.apply("Identity", [state.weights[name]])[0] for name in names} for _ in batch]
    predictions, moved = predict_in_shards(
        recipe.network,
        [{**state.weights, **frozen, **weights} for weights in own],
        [shard.x for shard in batch],
        [Moment(recipe.seed, state.step, sum(sizes[:i]), sum(sizes)) for i in range(len(sizes))],
        mixed,
    )
    losses = [recipe.losses(p, shard) for p, shard in zip(predictions, batch, strict=True)]
    data = [recipe.summed(of_shard) for of_shard in losses]
    loss = recipe.penalized(weighted(data, parts), {**state.weights, **own[0]})
    found = R.grad(loss, [weights[name] for weights in own for name in names])
    gradients = [dict(zip(names, found[i:], strict=False)) for i in range(0, len(found), len(names))]
    joined = {pack.key: added([pack.join(of_shard) for of_shard in gradients]) for pack in recipe.packs}
    measured = [recipe.measures(*of_shard) for of_shard in zip(predictions, batch, losses, data, strict=True)]
    after = recipe.descend(state, moved, lambda pack: joined[pack.key])
    means = {name: weighted([each[name] for each in measured], parts) for name in measured[0]}
    return after, means | {"loss": loss}
