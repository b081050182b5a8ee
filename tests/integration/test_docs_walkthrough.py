"""The walk through the API in docs/api.md and the steps of the user guide, run with bash and curl as they stand there.

A block of shell is followed by what it answers: `Answers **201**`, and the answer itself, shortened. A real stack with
the sample of `make serve` has to answer that.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, starmap
from pathlib import Path
from typing import Any, Final

import pytest

from dev.demo import load_sample
from dev.sample_data.sample import make_sample
from dev.sandbox.control import API_KEY
from dev.stack import Stack

DOCS: Final = Path(__file__).parents[2] / "docs"
DONE: Final = "<<done>>"
ANYTHING: Final = "…"
BYTE_ORDER_MARK: Final = "\ufeff"


@dataclass(frozen=True, slots=True)
class Step:
    """A block of shell; the status that its last call has to answer, None where nothing is promised; what is shown of
    the answer, and its language."""

    script: str
    status: int | None
    language: str
    shown: str


def steps(text: str) -> list[Step]:
    """The blocks of shell in this part of a page, each with what is promised until the next one."""
    found = []
    for part in re.split(r"^```sh\n", text, flags=re.M)[1:]:
        script, promise = part.split("\n```", 1)
        status = re.search(r"Answers \*\*(\d{3})\*\*", promise)
        shown = re.search(r"^```(json|text)\n(.*?)\n```", promise, flags=re.M | re.S)
        language, answer = (shown[1], shown[2]) if shown else ("", "")
        found.append(Step(script, int(status[1]) if status else None, language, answer))
    return found


def section(page: str, first: str, last: str) -> str:
    """What stands between two headings of a page of docs/."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return text[text.index(f"\n{first}\n") : text.index(f"\n{last}\n")]


class Shell:
    """One bash, in which step after step is run. curl tells the status of each call beside its answer."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self._process = process
        self._errors = errors

    def run(self, script: str) -> tuple[int, list[int], str]:
        """Exit code of the last command, the status of each call, and what was printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        before = self._errors.stat().st_size
        self._process.stdin.write(f"{script}\nprintf '\\n{DONE} %s\\n' $?\n")
        self._process.stdin.flush()
        printed: list[str] = []
        for line in self._process.stdout:
            if line.startswith(DONE):
                told = self._errors.read_bytes()[before:].decode()
                statuses = [int(status) for status in re.findall(r"^HTTP (\d+)$", told, flags=re.M)]
                return int(line.removeprefix(DONE)), statuses, "".join(printed).strip()
            printed.append(line)
        raise AssertionError(f"bash ended: {self._errors.read_text(encoding='utf-8')}")


@contextmanager
def open_shell(folder: Path, env: Mapping[str, str]) -> Iterator[Shell]:
    """A bash that works in ``folder``."""
    bash, curl = shutil.which("bash"), shutil.which("curl")
    if bash is None or curl is None:
        pytest.fail("The examples in docs/ are run with bash and curl: install both to run the tests.")
    errors = folder / "errors.txt"
    (folder / ".curlrc").write_text('write-out = "%{stderr}HTTP %{http_code}\\n"\n', encoding="utf-8")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    with (
        errors.open("wb") as errors_file,
        subprocess.Popen(
            [bash, "-u", "-o", "pipefail"],
            cwd=folder,
            env={**env, "PATH": path, "CURL_HOME": str(folder), "NO_PROXY": "*"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors_file,
            text=True,
        ) as process,
    ):
        yield Shell(process, errors)
        assert process.stdin is not None
        process.stdin.close()


def differences(shown: Any, answered: Any, where: str = "answer") -> list[str]:
    """Where the answer is not as shown: what is shown has to be there, `…` stands for anything."""
    if isinstance(shown, dict) and isinstance(answered, dict):
        missing = [f"{where} has no {name}" for name in shown.keys() - answered.keys()]
        both = [(shown[name], answered[name], f"{where}.{name}") for name in shown.keys() & answered.keys()]
        return [*missing, *chain.from_iterable(starmap(differences, both))]
    if isinstance(shown, list) and isinstance(answered, list):
        items = shown[:-1] if shown[-1:] == [ANYTHING] else shown
        if len(items) > len(answered) or (items is shown and len(items) != len(answered)):
            return [f"{where} has {len(answered)} items"]
        pairs = [(item, answered[number], f"{where}[{number}]") for number, item in enumerate(items)]
        return list(chain.from_iterable(starmap(differences, pairs)))
    if isinstance(shown, str) and isinstance(answered, str):
        pattern = ".*".join(re.escape(part) for part in shown.split(ANYTHING))
        return [] if re.fullmatch(pattern, answered, flags=re.S) else [f"{where} is {answered!r}"]
    return [] if shown in (answered, ANYTHING) else [f"{where} is {answered!r}"]


def walk(steps: Sequence[Step], shell: Shell) -> None:
    """Run step after step; each has to do what is promised of it."""
    for step in steps:
        exit_code, statuses, printed = shell.run(step.script)
        said = f"{step.script}\n\nprinted {printed[:3000]!r} with {statuses}"
        assert exit_code == 0, said
        if step.status is not None:
            assert statuses[-1:] == [step.status], said
        if step.language == "json":
            assert differences(json.loads(step.shown), json.loads(printed)) == [], said
        elif step.language == "text":
            assert differences(step.shown, printed.removeprefix(BYTE_ORDER_MARK)) == [], said


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """What `make serve` starts, with its sample."""
    with Stack(name="walkthrough") as stack:
        load_sample(stack, make_sample())
        stack.sandbox.change_settings(latencyBaseMs=500)  # so that an export lasts until the next call cancels it
        yield stack


@pytest.fixture
def shell(stack: Stack, tmp_path: Path) -> Iterator[Shell]:
    with open_shell(tmp_path, {"API": f"{stack.address}/api", "KEY": API_KEY}) as shell:
        yield shell


def test_the_walk_through_the_api_does_what_it_says(shell: Shell) -> None:
    text = section("api.md", "## A walk through the whole set-up", "## Calls")
    walked = steps(text)
    assert len(walked) >= 20
    assert [step.script for step in walked[1:] if step.status is None] == []
    walk(walked, shell)


def test_the_steps_of_the_user_guide_work(shell: Shell) -> None:
    set_up = steps(section("user-guide.md", "## Set up a destination", "### Pause, copy, withdraw"))
    export = steps(section("user-guide.md", "## Export, watch, cancel", "## What the status means"))
    assert len(set_up) >= 8
    assert len(export) >= 2
    for step in [*set_up, *export]:
        run_filling_in(step.script.replace("API=http://127.0.0.1:7071/api", ""), shell)


def run_filling_in(script: str, shell: Shell) -> None:
    """Run a block in which `ID=…` says that the reader fills in the `id` of the answer before."""
    parts = re.split(rf"^(\w+)={ANYTHING}.*\n?", script, flags=re.M)
    for part, name in zip(parts[::2], [*parts[1::2], ""], strict=True):
        exit_code, statuses, printed = shell.run(part)
        assert exit_code == 0, f"{part}\n\nprinted {printed!r}"
        assert all(status < 300 for status in statuses), f"{part}\n\nprinted {printed!r} with {statuses}"
        if name:
            shell.run(f"{name}={json.loads(printed)['id']}")
