"""Classical learners as graphs: five classifiers of the breast cancer data, and clusters of it, computed by providers.

The classifiers do not depend on each other, so providers compute them side by side. Each is arithmetic that scikit-learn
has too: the last column is its accuracy on the same samples.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

import ravop as R

data = load_breast_cancer()
X, X_test, y, y_test = train_test_split(data.data, data.target, test_size=0.3, random_state=1)

R.initialize()
R.Graph(name="learners", algorithm="classical learners", approach="distributed", seed=1)

# The scale of the features is learned on the volunteers' machines as well: the tables travel as they are.
table, tests = R.t(X.astype(np.float32)), R.t(X_test.astype(np.float32))
mean, deviation = R.mean(table, axis=0), R.std(table, axis=0)
table, tests = (table - mean) / deviation, (tests - mean) / deviation

learners = {
    "logistic regression": R.logistic_regression(table, y),
    "support vectors": R.svm_svc(table, y),
    "naive Bayes": R.naive_bayes(table, y),
    "5 nearest neighbours": R.knn_classifier(table, y, k=5),
}
for name, learner in learners.items():
    learner.predict(tests).persist_op(name=name)

# Where there is nothing of this kind, write it: the nearest mean of a class.
of_class = R.one_hot(y, 2).T
means = (of_class @ table) / R.sum(of_class, axis=1, keepdims=True)
R.argmin(R.norm(tests[:, None] - means, axis=2), axis=1).persist_op(name="nearest mean")

clusters = R.kmeans(table, 2)
clusters.labels.persist_op(name="clusters")

R.activate()
R.execute()
R.track_progress()

mean, deviation = X.mean(axis=0), X.std(axis=0)
theirs = {
    "logistic regression": LogisticRegression(),
    "support vectors": LinearSVC(),
    "naive Bayes": GaussianNB(),
    "5 nearest neighbours": KNeighborsClassifier(),
}
print(f"{'accuracy on the test samples':32}  here    scikit-learn")
for name in (*learners, "nearest mean"):
    line = f"{name:32}  {np.mean(R.fetch(name) == y_test):.1%}"
    if name in theirs:
        model = theirs[name].fit((X - mean) / deviation, y)
        line += f"   {model.score((X_test - mean) / deviation, y_test):.1%}"
    print(line)
labels = R.fetch("clusters")
agreement = max(np.mean(labels == y), np.mean(labels != y))
print(f"two clusters, found without the labels, agree with them in {agreement:.1%} of the samples")
