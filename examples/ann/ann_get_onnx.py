"""Third of three scripts: fetch the prediction and the weights, and save the trained network as ONNX."""

import pickle

import numpy as np

import ravop as R

R.initialize()

with open("ann.pkl", "rb") as file:
    model, expected = pickle.load(file)
prediction = np.array(R.fetch_persisting_op(op_name="test_prediction"))
print(f"test accuracy: {np.mean(prediction.argmax(axis=1) == expected):.1%}")

model.get_onnx_model("test_ann")
print("saved test_ann.onnx")
