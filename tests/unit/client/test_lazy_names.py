"""What `import ravop` loads, and when."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import provider.cli, ravop, ravsock.cli
assert "ravop.public" not in sys.modules
assert ravop.t is sys.modules["ravop.public"].t
"""


def test_coordinators_and_providers_do_not_load_the_language() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
