"""First of three scripts: define a network and its training, and leave the graph with the coordinator.

Run the three one after another, with RAVENVERSE_TOKEN (and RAVENVERSE_URL) set to those of a coordinator;
without them an embedded one serves all three, because it keeps its data from one script to the next.
"""

import pickle

from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import ravop as R
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.layers import Activation, BatchNormalization, Dense, Dropout
from ravdl.neural_networks.loss_functions import CrossEntropy
from ravdl.neural_networks.optimizers import Adam

R.initialize()
R.flush()
R.Graph(name="ann", algorithm="neural_network", approach="distributed")

iris = load_iris()
X = StandardScaler().fit_transform(iris.data)
y = OneHotEncoder(sparse_output=False).fit_transform(iris.target[:, None])
X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, random_state=4)

model = NeuralNetwork(optimizer=Adam(learning_rate=0.01), loss=CrossEntropy)
model.add(Dense(30, input_shape=(X.shape[1],)))
model.add(BatchNormalization())
model.add(Activation("relu"))
model.add(Dropout(0.2))
model.add(Dense(3))
model.add(Activation("softmax"))
model.summary()

model.fit(X, y, n_epochs=40, batch_size=25, save_model=True)
model.predict(X_test).persist_op(name="test_prediction")

R.activate()

# The third script needs the architecture again, and what the prediction is to be compared with.
with open("ann.pkl", "wb") as file:
    pickle.dump((model, y_test.argmax(axis=1)), file)
