"""Random operators: distributions, and that they are a pure function of seed, op and iteration."""

import numpy as np
import pytest

import ravop as R
from ravop.engine import Session
from ravop.errors import ArgumentError
from ravop.graph.serde import to_bytes

N = 200_000


def run(graph, engine="onnxruntime"):
    values = Session(to_bytes(graph.model()), engine=engine).run(graph.inputs)
    return [values[entry.value] for entry in graph.persisted.values()]


def persist(*ops):
    for number, op in enumerate(ops):
        op.persist_op(str(number))
    return ops[0].graph


DRAWS = [
    lambda size: R.random_uniform(size=size), lambda size: R.random_uniform(-2, 5, size), lambda size: R.random_normal(size=size),
    lambda size: R.random_normal(3.0, 0.5, size), lambda size: R.bernoulli(0.3, size),
    lambda size: R.bernoulli(0.5, size, dtype="float32"),
    lambda size: R.random(size),
]  # fmt: skip


@pytest.mark.parametrize("draw", DRAWS, ids=range(len(DRAWS)))
@pytest.mark.parametrize("size", [(), 7, (3, 5), (1024, 3), (2047,), (2, 1025)])
def test_engines_agree_bit_for_bit_on_bits(draw, size):
    R.Graph(seed=5)
    graph = persist(draw(size))
    first, second, third = run(graph), run(graph), run(graph, "reference")
    assert first[0].shape == ((size,) if isinstance(size, int) else size)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_allclose(first[0], third[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(N,), (400, 500), (N // 1024 * 1024,)])
def test_uniform_is_uniform(size):
    R.Graph(seed=1)
    (u,) = run(persist(R.random_uniform(size=size)))
    u = u.ravel().astype(np.float64)
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 5 / np.sqrt(12 * u.size)
    assert abs(u.var() - 1 / 12) < 0.001
    counts, _ = np.histogram(u, bins=100, range=(0, 1))
    chi_squared = ((counts - u.size / 100) ** 2 / (u.size / 100)).sum()
    assert 50 < chi_squared < 170  # 99 degrees of freedom: below 170 with a probability of 1 − 1e-5
    for lag in (1, 2, 32, 1024):
        assert abs(np.corrcoef(u[:-lag], u[lag:])[0, 1]) < 5 / np.sqrt(u.size)


def test_lower_bits_are_random_too():
    R.Graph(seed=2)
    (u,) = run(persist(R.random_uniform(size=N)))
    bits = (u.astype(np.float64) * 2**24).astype(np.int64)
    for bit in range(24):
        assert abs(((bits >> bit) & 1).mean() - 0.5) < 5 * 0.5 / np.sqrt(N), bit


def test_normal_is_normal():
    R.Graph(seed=3)
    (z,) = run(persist(R.random_normal(size=N)))
    z = z.astype(np.float64)
    assert abs(z.mean()) < 5 / np.sqrt(N)
    assert abs(z.std() - 1) < 0.01
    assert abs((z**3).mean()) < 0.05
    assert abs((z**4).mean() - 3) < 0.1
    assert abs((np.abs(z) < 1).mean() - 0.682689) < 0.006
    assert abs(np.corrcoef(z[: N // 2], z[N // 2 :])[0, 1]) < 0.02
    assert 3.5 < np.abs(z).max() < 5.8


@pytest.mark.parametrize("p", [0.0, 0.001, 0.2, 0.5, 0.97, 1.0])
def test_bernoulli_has_its_probability(p):
    R.Graph(seed=4)
    mask, by_op = run(persist(R.bernoulli(p, N), R.bernoulli(R.t(p), N)))
    assert mask.dtype == bool
    for drawn in (mask, by_op):
        assert abs(drawn.mean() - p) <= 5 * np.sqrt(p * (1 - p) / N)


def test_parameters_may_be_ops():
    R.Graph()
    low, std = R.t([[0.0], [10.0]]), R.t([0.1, 10.0])
    uniform, normal = run(
        persist(R.random_uniform(low, low + 1, (2, 1000)), R.random_normal(0.0, std, (1000, 2)))
    )
    assert (uniform[0] < 1).all()
    assert (uniform[1] >= 10).all()
    np.testing.assert_allclose(normal.std(axis=0), [0.1, 10], rtol=0.1)


def test_permutation():
    R.Graph(seed=6)
    one, two = run(persist(R.permutation(1000), R.permutation(1000)))
    np.testing.assert_array_equal(np.sort(one), np.arange(1000))
    assert (one != two).any()
    assert (one != np.arange(1000)).sum() > 950


def test_seeds_and_ops_differ_and_repeat():
    def drawn(seed, before=0):
        R.Graph(seed=seed)
        for _ in range(before):
            R.t(1.0) + 1.0  # other ops do not shift what random ops draw
        return run(persist(R.random_uniform(size=1000), R.random_uniform(size=1000)))

    (a, b), (again, _), (other, _), (shifted, _) = drawn(1), drawn(1), drawn(2), drawn(1, before=3)
    np.testing.assert_array_equal(a, again)
    np.testing.assert_array_equal(a, shifted)
    for first, second in ((a, b), (a, other)):
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.15
        assert (first == second).mean() < 0.01


def test_iterations_differ_in_nested_loops():
    R.Graph(seed=7)

    def outer(carry, _):
        def inner(carry, _):
            return carry, (R.random_uniform(size=500), R.bernoulli(0.5, 500, dtype="float32"))

        _, ys = R.scan(inner, None, length=4)
        return carry, (ys, R.random_uniform(size=500))

    _, ((u, b), own) = R.scan(outer, None, length=3)
    u, b, own = run(persist(u, b, own))
    rows = np.concatenate([u.reshape(12, 500), b.reshape(12, 500) - 0.5, own.reshape(3, 500)])
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert np.abs(np.corrcoef(rows) - np.eye(len(rows))).max() < 0.25  # 5.5 standard deviations
    assert abs(u.mean() - 0.5) < 0.02


def test_iterations_are_told_apart_over_a_long_loop():
    R.Graph(seed=8)
    _, u = R.scan(lambda carry, _: (carry, R.random_uniform(size=2)), None, length=20_000)
    (u,) = run(persist(u))
    assert len(np.unique(u[:, 0])) > 19_900
    for lag in (1, 2, 3, 256):
        assert abs(np.corrcoef(u[:-lag, 0], u[lag:, 0])[0, 1]) < 5 / np.sqrt(20_000)
    assert abs(np.corrcoef(u[:, 0], u[:, 1])[0, 1]) < 5 / np.sqrt(20_000)
    counts, _ = np.histogram(u[:, 0], bins=50, range=(0, 1))
    assert ((counts - 400) ** 2 / 400).sum() < 100  # 49 degrees of freedom


def test_a_given_key_does_not_depend_on_the_graph():
    def drawn(extra):
        R.Graph(seed=extra)
        if extra:
            R.random_uniform(size=3)
        return run(persist(R.random_uniform(size=100, key=R.random_key(3, 4, 5))))[0]

    np.testing.assert_array_equal(drawn(0), drawn(1))


@pytest.mark.parametrize(
    "wrong",
    [lambda: R.bernoulli(1.5, 3), lambda: R.random_uniform(size=(2, -1)), lambda: R.random_normal(size=0)],
)
def test_wrong_arguments(wrong):
    R.Graph()
    with pytest.raises(ArgumentError, match=r"test_random_ops\.py"):
        wrong()
