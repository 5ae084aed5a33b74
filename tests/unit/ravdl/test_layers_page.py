"""The page of layers is made of what the layers say, and tells all of them."""

from __future__ import annotations

from docs.generate import __main__ as generate
from ravdl.neural_networks.layers import LAYERS


def test_the_page_of_layers_is_up_to_date() -> None:
    text = (generate.FOLDER / "layers.md").read_text(encoding="utf-8")
    assert text == generate.text_of("layers.md"), "run python -m docs.generate"
    assert not [name for name in LAYERS if f"\n### {name}\n" not in text]
