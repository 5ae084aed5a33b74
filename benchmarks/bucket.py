"""Blobs in a bucket: what passes through the coordinator in a training with much data, and how fast transfers are, with signed
URLs and without. `python -m benchmarks bucket`.

The store is OpenStack's Swift with its S3 API, on the same machine: it bounds the speeds, and says nothing of other stores.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
from buckets import S3Server, s3_server
from relay import relaying

import ravop as R
from benchmarks.blobs import speeds
from benchmarks.laboratory import Lab, empty
from benchmarks.report import Row
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.layers import Activation, Dense
from ravdl.neural_networks.loss_functions import CrossEntropy
from ravdl.neural_networks.optimizers import Adam
from ravop.client import api

SAMPLES, FEATURES, CLASSES = 25_000, 1_000, 10
MODES = {"1": "with signed URLs", "0": "without"}


@contextmanager
def coordinator(server: S3Server, presign: str, clients: str) -> Iterator[Lab]:
    """One whose blobs are in a new bucket; `clients`: where these reach the store."""
    place = {
        "RAVENVERSE_BLOBS": server.place(server.bucket()),
        "RAVENVERSE_BLOB_PRESIGN": presign,
        "RAVENVERSE_BLOBS_PUBLIC_ENDPOINT": clients,
    }
    with empty() as lab, mock.patch.dict(os.environ, server.environment() | place):
        lab.coordinator()
        yield lab


def train() -> None:
    """On 100 MB of data, with one provider."""
    random = np.random.default_rng(0)
    x = random.normal(size=(SAMPLES, FEATURES)).astype(np.float32)
    y = np.eye(CLASSES, dtype=np.float32)[np.argmax(x[:, :CLASSES], axis=1)]
    R.Graph(name="much data")
    model = NeuralNetwork(optimizer=Adam(), loss=CrossEntropy)
    for layer in (
        Dense(256, input_shape=(FEATURES,)),
        Activation("relu"),
        Dense(CLASSES),
        Activation("softmax"),
    ):
        model.add(layer)
    model.fit(x, y, n_epochs=1, batch_size=250)
    model.predict(x).persist_op(name="prediction")
    R.activate()
    R.execute()
    R.track_progress()
    R.fetch("prediction")


def traffic(server: S3Server, presign: str) -> tuple[int, int]:
    """Bytes that a training moves through the coordinator's port, and between its clients and the store."""
    with (
        relaying(server.url) as store,
        coordinator(server, presign, store.url) as lab,
        relaying(lab.url) as control,
    ):
        lab.provider(lab.token("provider", "one"), "one", url=control.url)
        R.initialize(lab.token("requester", "benchmark"), url=control.url)
        try:
            train()
        finally:
            R.disconnect()
        return control.passed, store.passed


def speed(server: S3Server, presign: str) -> tuple[list[float], list[float]]:
    """MB/s up and down."""
    with coordinator(server, presign, server.url) as lab:
        R.initialize(lab.token("requester", "benchmark"), url=lab.url)
        try:
            return speeds(api.session())
        finally:
            R.disconnect()


def rows() -> list[Row]:
    found: list[Row] = []
    with s3_server() as server:
        for presign, how in MODES.items():
            through, past = traffic(server, presign)
            found.append(
                Row(f"a training on 100 MB, {how}: through the coordinator's port", f"{through / 1e6:,.2f} MB",
                    "no blobs" if presign == "1" else "report", f"{past / 1e6:,.1f} MB between clients and the store")
            )  # fmt: skip
        for presign, how in MODES.items():
            for what, rates in zip(("upload", "download"), speed(server, presign), strict=True):
                found.append(
                    Row(f"{what} of 64 MiB, {how}", f"{statistics.median(rates):,.0f} MB/s", "report",
                        f"{min(rates):,.0f} to {max(rates):,.0f}")
                )  # fmt: skip
    return found
