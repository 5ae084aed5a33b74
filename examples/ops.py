"""A few ops: write them as with NumPy, have them computed by providers, take a gradient.

Run it with `python examples/ops.py`. It starts a coordinator and two providers on this machine; with
RAVENVERSE_URL and RAVENVERSE_TOKEN set it uses theirs.
"""

import ravop as R

R.initialize()
R.Graph(name="ops", algorithm="examples", approach="distributed")

a = R.t([[1.0, 2.0], [3.0, 4.0]])
b = R.t([10.0, 20.0])

c = (a @ a + b) / 2  # broadcasting and scalars work as in NumPy
c.persist_op(name="c")
a.T.sum(axis=1).persist_op(name="column sums")

# Gradients are ops too: that of the mean square error of a linear model, by its weights.
x, y, w = R.t([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), R.t([1.0, 2.0, 3.0]), R.t([0.1, 0.2])
loss = R.mean(R.square(x @ w - y))
loss.persist_op(name="loss")
R.grad(loss, w).persist_op(name="gradient")

R.activate()
R.execute()
R.track_progress()

for name in ("c", "column sums", "loss", "gradient"):
    print(name, "=", R.fetch_persisting_op(op_name=name))
