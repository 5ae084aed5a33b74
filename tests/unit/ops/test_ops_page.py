"""Every operator has an example that gives what is written, and the page made of them is up to date."""

import ravop as R
from docs.generate import __main__ as generate
from docs.generate.examples import examples_of, results_of
from docs.generate.ops import entries


def test_every_operator_has_an_example_that_gives_what_is_written():
    found = {entry.name: examples_of(entry.function) for entry in entries()}
    results = results_of(example.code for examples in found.values() for example in examples)
    wrong = {
        example.code: (example.result, results[example.code])
        for examples in found.values()
        for example in examples
        if example.result != results[example.code]
    }
    assert not wrong
    assert not [name for name, examples in found.items() if not examples]


def test_every_operator_can_be_reached_by_all_its_names():
    for entry in entries():
        for name in (entry.name, *entry.others):
            assert getattr(R, name) is entry.function


def test_the_page_is_up_to_date():
    assert (generate.FOLDER / "ops.md").read_text(encoding="utf-8") == generate.text_of("ops.md"), (
        "run python -m docs.generate"
    )
