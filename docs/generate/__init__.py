"""The pages of the documentation that are made from the code: one module a page, each with `page() -> str`.

`python -m docs.generate` writes all of them; a test asserts that the committed ones are up to date.
"""
