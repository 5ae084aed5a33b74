"""Every snippet of README and docs is run, as a reader would who follows the page from top to bottom.

The `python` fences of a page are one script, its `sh` fences one shell session, each in an empty folder
that finds an embedded cluster running. An `sh` fence marked `background="TEXT"` is a program that goes on:
it is started, must print TEXT, and is ended after the page. One marked `covered-by=FILE` is run by that
file instead. `pycon` fences, each an expression and its value, are run by the test of their page. Other fences
(`text`, `mermaid`, `json`) are not run. `TOKEN` and `URL` in a page stand for a real
token and the coordinator's URL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import ROOT, Lab, free_port

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = ("python", "sh")
SHOWN = ("text", "mermaid", "json", "pycon")
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    language: str
    marks: str
    text: str

    def mark(self, name: str) -> str:
        found = re.search(rf'{name}="?([^"\s]+(?: [^"]*)?)"?', self.marks)
        return found[1] if found else ""


def snippets(page: Path) -> list[Snippet]:
    return [Snippet(*match) for match in FENCE.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fence_says_whether_it_is_run(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = snippets(page)
    assert text.count("```") == 2 * len(found), "a fence without a language, or one that is not closed"
    assert {snippet.language for snippet in found} <= {*RUN, *SHOWN}
    for snippet in found:
        covering = snippet.mark("covered-by")
        assert not covering or (ROOT / covering).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert re.match(r"https?://", target) or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_snippets_run(page: Path, embedded: Lab, tmp_path: Path) -> None:
    script = "\n".join(snippet.text for snippet in snippets(page) if snippet.language == "python")
    if script:
        path = tmp_path / f"{page.stem}.py"
        path.write_text(script, encoding="utf-8")
        embedded.script(path, token="", cwd=tmp_path).result()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shell_snippets_run(page: Path, embedded: Lab, lab: Lab) -> None:
    """Exported variables live on from one fence to the next; `9999`, the usual port, is a free one here."""
    usual = str(free_port())
    home = {"RAVENVERSE_HOME": str(embedded.folder / "home"), "RAVENVERSE_URL": "", "RAVENVERSE_TOKEN": ""}
    (lab.folder / "variables").touch()
    for snippet in snippets(page):
        if snippet.language != "sh" or snippet.mark("covered-by"):
            continue
        text = snippet.text.replace("9999", usual)
        waited_for = snippet.mark("background")
        before, after = (
            (". ./variables\nexec ", "") if waited_for else (". ./variables\n", "\nexport -p > variables")
        )
        process = lab.start(["bash", "-euc", before + text + after], **home)
        if waited_for:
            process.wait_for(waited_for)
        else:
            process.result()
