"""Classical learners against scikit-learn, on its real data sets."""

import numpy as np
import pytest
from sklearn import cluster, datasets, linear_model, naive_bayes, neighbors, svm

import ravop as R
from ravop.errors import ArgumentError, DTypeError, ShapeError

IRIS, DIABETES, DIGITS, CANCER = (
    load(return_X_y=True)
    for load in (
        datasets.load_iris,
        datasets.load_diabetes,
        datasets.load_digits,
        datasets.load_breast_cancer,
    )
)
SCALED = (CANCER[0] - CANCER[0].mean(0)) / CANCER[0].std(0), CANCER[1]
FEW = DIGITS[0][:600] / 16, DIGITS[1][:600]
EXACT = {"tol": 1e-10, "max_iter": 20_000}
LIBLINEAR = {"dual": False, **EXACT}

LINEAR = [
    ("linear", R.linear_regression, linear_model.LinearRegression(), DIABETES, {}),
    ("no intercept", R.linear_regression, linear_model.LinearRegression(fit_intercept=False), DIABETES, {"fit_intercept": False}),
    ("more features than samples", R.linear_regression, linear_model.LinearRegression(), (FEW[0][:40], FEW[1][:40]), {}),
    ("ridge", R.ridge, linear_model.Ridge(alpha=0.3), DIABETES, {"alpha": 0.3}),
    ("svr", R.svm_svr, svm.LinearSVR(loss="squared_epsilon_insensitive", epsilon=5.0, C=2.0, **LIBLINEAR), DIABETES,
     {"epsilon": 5.0, "C": 2.0}),
    ("logistic", R.logistic_regression, linear_model.LogisticRegression(**EXACT), SCALED, {}),
    ("raw features", R.logistic_regression, linear_model.LogisticRegression(solver="newton-cholesky", tol=1e-9), CANCER, {}),
    ("logistic, no intercept", R.logistic_regression, linear_model.LogisticRegression(fit_intercept=False, C=0.1, **EXACT),
     SCALED, {"fit_intercept": False, "C": 0.1}),
    ("multinomial", R.logistic_regression, linear_model.LogisticRegression(**EXACT), IRIS, {}),
    ("multinomial digits", R.logistic_regression, linear_model.LogisticRegression(**EXACT), FEW, {}),
    ("svc", R.svm_svc, svm.LinearSVC(C=0.5, **LIBLINEAR), SCALED, {"C": 0.5}),
    ("svc of three", R.svm_svc, svm.LinearSVC(**LIBLINEAR), IRIS, {}),
    ("svc of ten", R.svm_svc, svm.LinearSVC(**LIBLINEAR), FEW, {}),
]  # fmt: skip
PARTS = {
    "coef": (lambda ours, _: ours.coef, lambda theirs, _: theirs.coef_),
    "intercept": (lambda ours, _: ours.intercept, lambda theirs, _: theirs.intercept_),
    "prediction": (lambda ours, x: ours.predict(x), lambda theirs, x: theirs.predict(x)),
    "probabilities": (lambda ours, x: ours.predict_proba(x), lambda theirs, x: theirs.predict_proba(x)),
    "scores": (lambda ours, x: ours.decision_function(x), lambda theirs, x: theirs.decision_function(x)),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-3), ("float64", 2e-5)])
def test_linear_models_are_those_of_scikit_learn(dtype, tolerance):
    """Coefficients within `tolerance` of the largest; no prediction of a class differs."""
    graph = R.Graph()
    wanted = {}
    for name, learn, theirs, (x, y), arguments in LINEAR:
        if dtype == "float64" and len(x) == len(FEW[0]):
            continue
        given = graph.input(x.astype(dtype))
        ours, right = learn(given, y, **arguments), theirs.fit(x, y)
        for part, (mine, expected) in PARTS.items():
            if part in ("coef", "intercept", "prediction") or (part == "probabilities" and hasattr(right, "predict_proba")) \
                    or (part == "scores" and hasattr(right, "decision_function")):  # fmt: skip
                mine(ours, given).persist_op(f"{name}: {part}")
                wanted[f"{name}: {part}"] = np.asarray(expected(right, x))
    results = R.run_local()
    for name, value in wanted.items():
        got = results[name]
        assert got.shape == value.shape or value.shape == (1,) or not value.ndim, name
        if value.dtype.kind == "i":
            np.testing.assert_array_equal(got, value, err_msg=name)
        else:
            assert got.dtype == dtype, name
            np.testing.assert_allclose(got, np.squeeze(value) if got.ndim < value.ndim else value,
                                       atol=tolerance * np.abs(value).max(), err_msg=name)  # fmt: skip


def test_bayes_and_neighbours_are_those_of_scikit_learn():
    graph = R.Graph()
    wanted = {}

    def add(name, ours, theirs, parts, x):
        for part in parts:
            getattr(ours, part)(graph.input(x.astype(np.float32))).persist_op(f"{name}: {part}")
            wanted[f"{name}: {part}"] = getattr(theirs, part)(x)

    both = ("predict", "predict_proba")
    nearest = neighbors.KNeighborsClassifier
    for name, (x, y) in {"iris": IRIS, "cancer": CANCER, "digits": FEW}.items():
        x = x.astype(np.float32)
        add(f"gaussian {name}", R.naive_bayes(x, y), naive_bayes.GaussianNB().fit(x, y), both, x)
        if name == "iris":  # whose distances are often equal but for rounding
            continue
        add(
            f"neighbours {name}",
            R.knn_classifier(x[::2], y[::2], 3),
            nearest(3).fit(x[::2], y[::2]),
            both,
            x[1::2],
        )
    x, y = DIGITS[0][:600], DIGITS[1][:600]
    add(
        "multinomial",
        R.naive_bayes(x, y, "multinomial", alpha=0.5),
        naive_bayes.MultinomialNB(alpha=0.5).fit(x, y),
        both,
        x,
    )
    x, y = DIABETES
    add(
        "regressor",
        R.knn_regressor(x[:300], y[:300]),
        neighbors.KNeighborsRegressor().fit(x[:300], y[:300]),
        both[:1],
        x[300:],
    )
    results = R.run_local()
    for name, value in wanted.items():
        if value.dtype.kind == "i":
            np.testing.assert_array_equal(results[name], value, err_msg=name)
        else:
            np.testing.assert_allclose(results[name], value, rtol=2e-3, atol=2e-3, err_msg=name)


def test_kmeans_is_that_of_scikit_learn_and_draws_good_centers():
    x = DIGITS[0].astype(np.float32)
    theirs = cluster.KMeans(10, init=x[:10], n_init=1).fit(x)
    graph = R.Graph(seed=3)
    given = graph.input(x)
    ours, drawn = R.kmeans(given, 10, init=x[:10]), R.kmeans(given, 10)
    for name, op in {"centers": ours.centers, "labels": ours.labels, "inertia": ours.inertia, "rounds": ours.n_iter,
                     "predicted": ours.predict(given), "drawn": drawn.inertia, "drawn labels": drawn.labels}.items():  # fmt: skip
        op.persist_op(name)
    R.kmeans(given, 1).centers.persist_op("mean")
    R.kmeans([[0.0], [1.0], [1.0], [5.0]], 3, init=[[0.0], [100.0], [3.0]]).centers.persist_op("lonely")
    results = R.run_local()
    np.testing.assert_allclose(results["centers"], theirs.cluster_centers_, atol=1e-4)
    np.testing.assert_array_equal(results["labels"], theirs.labels_)
    np.testing.assert_array_equal(results["predicted"], theirs.labels_)
    np.testing.assert_allclose(results["inertia"], theirs.inertia_, rtol=1e-5)
    assert results["rounds"] == theirs.n_iter_
    usual = [cluster.KMeans(10, n_init=1, random_state=seed).fit(x).inertia_ for seed in range(5)]
    assert results["drawn"] < 1.03 * max(usual)
    assert len(set(results["drawn labels"].tolist())) == 10
    np.testing.assert_allclose(results["mean"], [x.mean(0)], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(results["lonely"], [[2 / 3], [100], [5]], rtol=1e-5)


def test_labels_are_any_integers_or_computed_ones():
    graph = R.Graph()
    x, y = IRIS
    names = np.array([30, -7, 12])[y]
    given = graph.input(x.astype(np.float32))
    computed = R.argmax(R.one_hot(R.t(y), 3), axis=1)
    for name, model in {
        "named": R.logistic_regression(given, names), "computed": R.logistic_regression(given, computed, n_classes=3),
        "two": R.svm_svc(given[:100], names[:100]), "neighbours": R.knn_classifier(given, names, k=1),
    }.items():  # fmt: skip
        model.predict(given).persist_op(name)
    results = R.run_local()
    right = linear_model.LogisticRegression(**EXACT).fit(x, y).predict(x)
    np.testing.assert_array_equal(results["computed"], right)
    np.testing.assert_array_equal(results["named"], np.array([30, -7, 12])[right])
    np.testing.assert_array_equal(results["two"][:100], names[:100])
    np.testing.assert_array_equal(results["neighbours"], names)


def test_gradients_go_through_least_squares():
    """Leave-one-out by hand: how the fit moves with a target, which is a row of the hat matrix."""
    x, y = DIABETES[0][:30], DIABETES[1][:30]
    graph = R.Graph()
    target = R.t(y, "float64")
    given = graph.input(x)
    R.grad(R.linear_regression(given, target).predict(given)[4], target).persist_op("row")
    wide = np.column_stack([np.ones(30), x])
    np.testing.assert_allclose(R.run_local()["row"], (wide @ np.linalg.pinv(wide))[4], rtol=1e-6, atol=1e-9)


X, Y = np.ones((4, 2), np.float32), np.array([0, 1, 0, 1])
WRONG = [
    (lambda: R.linear_regression(X[:, 0], Y), ShapeError), (lambda: R.linear_regression(X, Y[:3]), ShapeError),
    (lambda: R.linear_regression(X, Y).predict(np.ones((3, 5))), ShapeError), (lambda: R.ridge(X, Y, alpha=-1), ArgumentError),
    (lambda: R.logistic_regression(X, Y / 2), DTypeError), (lambda: R.logistic_regression(X, Y[:3]), ShapeError),
    (lambda: R.logistic_regression(X, Y * 0), ArgumentError),
    (lambda: R.logistic_regression(X, R.argmax(R.t(X), 1)), ArgumentError),
    (lambda: R.logistic_regression(X, Y, C=0), ArgumentError), (lambda: R.svm_svc(X, Y, C=-1.0), ArgumentError),
    (lambda: R.svm_svr(X, Y, epsilon=-1), ArgumentError), (lambda: R.knn_classifier(X, Y, k=5), ArgumentError),
    (lambda: R.knn_regressor(X, Y, k=0), ArgumentError), (lambda: R.kmeans(X, 5), ArgumentError),
    (lambda: R.kmeans(X, 2, init=np.ones((2, 3))), ShapeError), (lambda: R.naive_bayes(X, Y, "poisson"), ArgumentError),
    (lambda: R.naive_bayes(X, Y, n_classes=1), ArgumentError), (lambda: R.decision_tree_classifier(X, Y), ArgumentError),
    (lambda: R.decision_tree_regressor(X, Y), ArgumentError), (lambda: R.random_forest_classifier(X, Y), ArgumentError),
    (lambda: R.random_forest_regressor(X, Y), ArgumentError), (lambda: R.kmeans(np.ones((0, 2)), 1), ShapeError),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "error"), WRONG)
def test_wrong_use(wrong, error):
    R.Graph()
    with pytest.raises(error) as caught:
        wrong()
    assert caught.value.problem.expected
