"""First and second derivatives of linear algebra against PyTorch's, and third ones against finite differences."""

import numpy as np
import torch

import ravop as R

RNG = np.random.default_rng(1)
LA = torch.linalg
A, B = RNG.normal(size=(2, 4, 4)), RNG.normal(size=(2, 4, 3))
TALL, WIDE, RIGHT = RNG.normal(size=(5, 3)), RNG.normal(size=(3, 5)), RNG.normal(size=(5, 2))


def squared(x):
    return x @ x.swapaxes(-1, -2)


CASES = {
    "inv": (R.inv, LA.inv, [A]),
    "solve": (R.solve, LA.solve, [A, B]),
    "det": (R.det, LA.det, [A]),
    "slogdet": (lambda x: R.slogdet(x)[1], lambda x: LA.slogdet(x)[1], [A]),
    "cholesky": (lambda x: R.cholesky(squared(x)), lambda x: LA.cholesky(squared(x)), [A]),
    "triangular": (R.solve_triangular, lambda x, y: LA.solve_triangular(x.triu(), y, upper=True), [A, B]),
    "q": (lambda x: R.qr(x)[0], lambda x: LA.qr(x)[0], [TALL]),
    "r": (lambda x: R.qr(x)[1], lambda x: LA.qr(x)[1], [TALL]),
    "eigenvalues": (lambda x: R.eigvalsh(squared(x)), lambda x: LA.eigvalsh(squared(x)), [A]),
    "eigenvectors": (lambda x: R.eigh(squared(x))[1] ** 2, lambda x: LA.eigh(squared(x))[1] ** 2, [A]),
    "s": (lambda x: R.svd(x, compute_uv=False), LA.svdvals, [WIDE]),
    "u": (lambda x: R.svd(x, full_matrices=False)[0] ** 2, lambda x: LA.svd(x, full_matrices=False)[0] ** 2, [TALL]),
    "v": (lambda x: R.svd(x, full_matrices=False)[2] ** 2, lambda x: LA.svd(x, full_matrices=False)[2] ** 2, [WIDE]),
    "pinv": (R.pinv, LA.pinv, [TALL]),
    "pinv of a wide one": (R.pinv, LA.pinv, [WIDE]),
    "lstsq": (lambda x, y: R.lstsq(x, y)[0], lambda x, y: LA.pinv(x) @ y, [TALL, RIGHT]),
    "nuclear norm": (lambda x: R.norm(x, "nuc"), lambda x: LA.norm(x, "nuc"), [TALL]),
    "power": (lambda x: R.matrix_power(x, -2), lambda x: LA.matrix_power(x, -2), [A]),
    "products": (
        lambda x, y: R.kron(R.diag(x[0, 0]), R.tensordot(x, y, ([0, 2], [0, 1]))) * R.trace(x[1]),
        lambda x, y: torch.kron(torch.diag(x[0, 0]), torch.tensordot(x, y, ([0, 2], [0, 1]))) * torch.trace(x[1]),
        [A, B],
    ),
}  # fmt: skip


def test_first_and_second_derivatives_are_those_of_pytorch():
    R.Graph()
    wanted = {}
    for name, (ours, theirs, arrays) in CASES.items():
        ops = [R.t(a, "float64") for a in arrays]
        tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
        outputs, expected = [ours(*ops)], [theirs(*tensors)]
        for order in (1, 2):
            weights = [RNG.normal(size=tuple(t.shape)) for t in expected]
            loss = sum((R.sum(op * w) for op, w in zip(outputs, weights, strict=True)), start=0.0)
            right = sum((t * torch.tensor(w)).sum() for t, w in zip(expected, weights, strict=True))
            outputs, expected = R.grad(loss, ops), torch.autograd.grad(right, tensors, create_graph=True)
            for position, (op, tensor) in enumerate(zip(outputs, expected, strict=True)):
                op.persist_op(f"{name}: order {order}, input {position}")
                wanted[f"{name}: order {order}, input {position}"] = tensor.detach().numpy()
    results = R.run_local()
    for name, value in wanted.items():
        np.testing.assert_allclose(
            results[name], value, rtol=1e-8, atol=1e-8 * np.abs(value).max(), err_msg=name
        )


def test_third_derivatives_along_a_line():
    """f(t) = g(A + t·B) by central differences of PyTorch's second derivatives."""
    graph = R.Graph()
    t = R.t(0.3, "float64")
    a, b = A[0] + 3 * np.eye(4), A[1]
    step = 1e-4
    cases = {
        "inv": (R.inv, LA.inv), "det": (R.det, LA.det), "slogdet": (lambda x: R.slogdet(x)[1], lambda x: LA.slogdet(x)[1]),
        "solve": (lambda x: R.solve(x, a), lambda x: LA.solve(x, torch.tensor(a))),
        "eigenvalues": (lambda x: R.eigvalsh(squared(x)), lambda x: LA.eigvalsh(squared(x))),
        "s": (lambda x: R.svd(x, compute_uv=False), LA.svdvals),
    }  # fmt: skip
    wanted = {}
    for name, (ours, theirs) in cases.items():
        op = R.sum(ours(graph.tensor(a) + t * b) ** 3)
        for _ in range(3):
            op = R.grad(op, t)
        op.persist_op(name)

        def second(at, theirs=theirs):
            x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
            y = (theirs(torch.tensor(a) + x * torch.tensor(b)) ** 3).sum()
            (first,) = torch.autograd.grad(y, x, create_graph=True)
            return float(torch.autograd.grad(first, x)[0])

        wanted[name] = (second(0.3 + step) - second(0.3 - step)) / (2 * step)
    results = R.run_local()
    for name, value in wanted.items():
        np.testing.assert_allclose(results[name], value, rtol=1e-5, err_msg=name)


def test_equal_eigenvalues_have_a_finite_gradient():
    R.Graph()
    x = R.t(np.eye(3), "float64")
    values, vectors = R.eigh(x)
    R.grad(R.sum(values * [1.0, 1.0, 1.0]), x).persist_op("values")
    R.grad(R.sum(vectors**2), x).persist_op("vectors")
    results = R.run_local()
    np.testing.assert_allclose(results["values"], np.eye(3), atol=1e-12)
    assert np.isfinite(results["vectors"]).all()
