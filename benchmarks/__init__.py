"""Benchmarks: each module measures one thing and gives rows; `python -m benchmarks` runs them and prints the table.

What starts, kills and disturbs real processes is shared with the tests and lies in `tests/support`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
