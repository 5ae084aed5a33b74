"""Every layer by its class name. A new layer is entered here, and among the names of the package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ravdl.neural_networks.layers.activation import (
    ELU,
    GLU,
    Activation,
    LeakyReLU,
    PReLU,
    ReLU,
    Softmax,
    ThresholdedReLU,
)
from ravdl.neural_networks.layers.attention import AdditiveAttention, Attention, MultiHeadAttention
from ravdl.neural_networks.layers.convolution import Conv1D, Conv2D, Conv3D
from ravdl.neural_networks.layers.dense import Dense
from ravdl.neural_networks.layers.depthwise import (
    DepthwiseConv1D,
    DepthwiseConv2D,
    SeparableConv1D,
    SeparableConv2D,
)
from ravdl.neural_networks.layers.embedding import Embedding, PositionalEmbedding, SinusoidalEmbedding
from ravdl.neural_networks.layers.global_pooling import (
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    GlobalMaxPooling3D,
)
from ravdl.neural_networks.layers.group_normalization import GroupNormalization, InstanceNormalization
from ravdl.neural_networks.layers.layer import Layer
from ravdl.neural_networks.layers.layer_normalization import (
    LayerNormalization,
    RMSNormalization,
    UnitNormalization,
)
from ravdl.neural_networks.layers.merging import (
    Add,
    Average,
    Concat,
    Concatenate,
    Division,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
)
from ravdl.neural_networks.layers.noise import (
    AlphaDropout,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
)
from ravdl.neural_networks.layers.normalization import BatchNormalization
from ravdl.neural_networks.layers.pooling import (
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
)
from ravdl.neural_networks.layers.recurrent import GRU, LSTM, SimpleRNN
from ravdl.neural_networks.layers.resizing import (
    Cropping1D,
    Cropping2D,
    Cropping3D,
    UpSampling1D,
    UpSampling2D,
    UpSampling3D,
    ZeroPadding1D,
    ZeroPadding2D,
    ZeroPadding3D,
)
from ravdl.neural_networks.layers.shaping import (
    Flatten,
    Identity,
    Permute,
    Power,
    RepeatVector,
    Rescaling,
    Reshape,
    Transpose,
)
from ravdl.neural_networks.layers.transposed import Conv1DTranspose, Conv2DTranspose, Conv3DTranspose
from ravdl.neural_networks.layers.wrappers import Bidirectional, TimeDistributed
from ravop.errors import ArgumentError, did_you_mean

LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer
    for layer in (
        Activation,
        Add,
        AdditiveAttention,
        AlphaDropout,
        Attention,
        Average,
        AveragePooling1D,
        AveragePooling2D,
        AveragePooling3D,
        BatchNormalization,
        Bidirectional,
        Concat,
        Concatenate,
        Conv1D,
        Conv1DTranspose,
        Conv2D,
        Conv2DTranspose,
        Conv3D,
        Conv3DTranspose,
        Cropping1D,
        Cropping2D,
        Cropping3D,
        Dense,
        DepthwiseConv1D,
        DepthwiseConv2D,
        Division,
        Dot,
        Dropout,
        ELU,
        Embedding,
        Flatten,
        GLU,
        GRU,
        GaussianDropout,
        GaussianNoise,
        GlobalAveragePooling1D,
        GlobalAveragePooling2D,
        GlobalAveragePooling3D,
        GlobalMaxPooling1D,
        GlobalMaxPooling2D,
        GlobalMaxPooling3D,
        GroupNormalization,
        Identity,
        InstanceNormalization,
        LSTM,
        LayerNormalization,
        LeakyReLU,
        MaxPooling1D,
        MaxPooling2D,
        MaxPooling3D,
        Maximum,
        Minimum,
        MultiHeadAttention,
        Multiply,
        PReLU,
        Permute,
        PositionalEmbedding,
        Power,
        RMSNormalization,
        ReLU,
        RepeatVector,
        Rescaling,
        Reshape,
        SeparableConv1D,
        SeparableConv2D,
        SimpleRNN,
        SinusoidalEmbedding,
        Softmax,
        SpatialDropout1D,
        SpatialDropout2D,
        SpatialDropout3D,
        Subtract,
        ThresholdedReLU,
        TimeDistributed,
        Transpose,
        UnitNormalization,
        UpSampling1D,
        UpSampling2D,
        UpSampling3D,
        ZeroPadding1D,
        ZeroPadding2D,
        ZeroPadding3D,
    )
}


def layer_from(kind: str, config: Mapping[str, Any]) -> Layer:
    """A layer from its class name and `config()`. Raises `ArgumentError` for another name than those."""
    if kind not in LAYERS:
        raise ArgumentError(
            "unknown layer",
            expected=", ".join(LAYERS),
            received=repr(kind),
            hint=did_you_mean(str(kind), LAYERS),
        )
    return LAYERS[kind](**config)
