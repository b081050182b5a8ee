"""What goes into the package: the files of the app, and the wheels of its dependencies."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from packaging.version import Version

from dev.packaging import wheels
from dev.packaging.build import build
from dev.packaging.contents import app_files, left_out
from dev.packaging.errors import PackageError
from dev.packaging.requirements import PROJECT, Locked
from dev.packaging.wheels import AZURE, THIS_MACHINE, Target, fetch, unpack
from tests.checkout import checkout

APP = {
    "function_app.py": "app = 1",
    "host.json": "{}",
    "requirements.txt": "",
    "shared/__init__.py": "",
    "shared/bootstrap.py": "",
    "shared/api/page.html": "<p>",
}
LICENCE = {"demo-1.dist-info/licenses/LICENSE.txt": "Do as you like."}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small app with the project's own .funcignore."""
    folder = tmp_path / "project"
    write(folder, APP)
    shutil.copyfile(PROJECT / ".funcignore", folder / ".funcignore")
    return folder


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def make_wheel(folder: Path, files: Mapping[str, str], name: str = "demo-1-py3-none-any.whl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        metadata = "Metadata-Version: 2.1\nName: demo\nVersion: 1\n"
        tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        about = {"demo-1.dist-info/METADATA": metadata, "demo-1.dist-info/WHEEL": tag, "demo-1.dist-info/RECORD": ""}
        for path, text in {**about, **files}.items():
            archive.writestr(path, text)
    return folder / name


def locked(content: bytes) -> Locked:
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return Locked("demo", Version("1"), None, frozenset({checksum}), (), wanted=True)


# -- the files of the app ----------------------------------------------------------------------------------------------


def test_the_app_is_what_funcignore_leaves(project: Path) -> None:
    write(project, {"dev/host.py": "", "tests/test_a.py": "", "docs/a.md": "", "infra/main.bicep": "", "README.md": ""})
    write(project, {"shared/__pycache__/bootstrap.cpython-313.pyc": "", ".venv/pyvenv.cfg": "", ".git": "gitdir: x"})
    assert app_files(project) == sorted(APP)
    assert left_out(project) == [".funcignore", ".git", ".venv", "README.md", "dev", "docs", "infra", "tests"]


def test_the_real_app_can_be_packed(tmp_path: Path) -> None:
    files = app_files(checkout(tmp_path))
    modules = {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "shared").rglob("*.py")}
    assert modules <= set(files)
    assert {file.partition("/")[0] for file in files} == {"function_app.py", "host.json", "requirements.txt", "shared"}


@pytest.mark.parametrize(
    ("line", "file"),
    [
        (".venv/", ".venv/lib/site.py"),
        ("dev/", "dev/demo.py"),
        ("tests/", "tests/test_a.py"),
        ("infra/", "infra/main.bicep"),
        ("local.settings.json", "local.settings.json"),
        (".azure/", ".azure/prod/.env"),
        ("node_modules/", "node_modules/a/index.js"),
        ("*.pyc", "shared/bootstrap.pyc"),
    ],
)
def test_a_line_that_is_lost_from_funcignore_is_noticed(project: Path, line: str, file: str) -> None:
    write(project, {file: ""})
    assert file not in app_files(project)
    lines = (project / ".funcignore").read_text(encoding="utf-8").splitlines()
    write(project, {".funcignore": "\n".join(kept for kept in lines if kept != line)})
    with pytest.raises(PackageError, match=file):
        app_files(project)


@pytest.mark.parametrize("file", ["notes.txt", "shared/customers.csv", "shared/.env", "dump.py", "shared/key.pem"])
def test_a_file_that_nobody_meant_to_deploy_is_refused_by_name(project: Path, file: str) -> None:
    write(project, {file: ""})
    with pytest.raises(PackageError, match=f"nothing says that they should: {file}"):
        app_files(project)


def test_an_app_with_something_missing_is_refused(project: Path) -> None:
    with (project / ".funcignore").open("a", encoding="utf-8") as ignored:
        ignored.write("host.json\n")
    with pytest.raises(PackageError, match=r"there is no app: host\.json"):
        app_files(project)


def test_a_link_is_refused(project: Path) -> None:
    (project / "shared/more.py").symlink_to(PROJECT / "function_app.py")
    with pytest.raises(PackageError, match=r"shared/more\.py is a link"):
        app_files(project)


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "AccountName=a;Account" + "Key=" + "A" * 86 + "==",
        "https://a.blob.core.windows.net/c?sv=2024&" + "sig=" + "a%2B" * 12,
        "key = '" + "0123456789abcdef" * 2 + "-us19'",
        "secret = 'abc" + "8Q~" + "x" * 34 + "'",
        "Bearer ey" + "JhbGciOiJSUzI1NiJ9.ey" + "JzdWIiOiIxMjM0NTY3In0",
        "https://user:" + "pass" + "word@index.example/simple",
    ],
)
def test_a_secret_in_the_app_is_refused_with_its_place(project: Path, text: str) -> None:
    write(project, {"shared/bootstrap.py": f'"""Fine."""\n# {text}\n'})
    with pytest.raises(PackageError, match=r"shared/bootstrap\.py, line 2, looks like"):
        app_files(project)


# -- wheels ------------------------------------------------------------------------------------------------------------


def test_a_wheel_is_unpacked_as_pip_would_without_its_scripts(tmp_path: Path) -> None:
    files = {
        "demo/__init__.py": "a",
        "demo-1.data/purelib/pure.py": "b",
        "demo-1.data/platlib/deep/native.so": "c",
        "demo-1.data/scripts/demo": "#!python",
        "demo-1.data/data/share/demo.1": "man",
        **LICENCE,
    }
    unpack(make_wheel(tmp_path, files), tmp_path / "site")
    found = {
        path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*") if path.is_file()
    }
    about = {f"demo-1.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD")}
    assert found == {"demo/__init__.py", "pure.py", "deep/native.so", *about, *LICENCE}


def test_a_wheel_without_a_licence_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="brings no licence text along"):
        unpack(make_wheel(tmp_path, {"demo/__init__.py": ""}), tmp_path / "site")


class Index:
    """A package index on this machine with one wheel."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheel = make_wheel(folder, {"demo/__init__.py": "", **LICENCE})
        self.offer()

    def offer(self, attributes: str = "", wheel: str = "demo-1-py3-none-any.whl") -> None:
        write(self.folder, {"simple/demo/index.html": f'<!DOCTYPE html><a href="/{wheel}" {attributes}>{wheel}</a>'})


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """The only index that pip asks."""
    folder = tmp_path / "index"
    served = Index(folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
            monkeypatch.delenv(name, raising=False)
        yield served
        server.shutdown()


def test_wheels_are_fetched_once(index: Index, tmp_path: Path) -> None:
    package = locked(index.wheel.read_bytes())
    (first,) = fetch(THIS_MACHINE, [package], tmp_path / "cache")
    index.offer(wheel="gone-2-py3-none-any.whl")
    assert fetch(THIS_MACHINE, [package], tmp_path / "cache") == [first]
    assert first.read_bytes() == index.wheel.read_bytes()


def test_a_wheel_that_was_changed_in_the_cache_is_fetched_again(index: Index, tmp_path: Path) -> None:
    package = locked(index.wheel.read_bytes())
    (wheel,) = fetch(THIS_MACHINE, [package], tmp_path / "cache")
    wheel.write_bytes(b"something else")
    (again,) = fetch(THIS_MACHINE, [package], tmp_path / "cache")
    assert again.read_bytes() == index.wheel.read_bytes()


def test_a_wheel_that_is_not_that_of_the_lock_is_refused(index: Index, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="THESE PACKAGES DO NOT MATCH THE HASHES"):
        fetch(THIS_MACHINE, [locked(b"another file of this name")], tmp_path / "cache")


def test_a_version_that_was_withdrawn_is_refused(index: Index, tmp_path: Path) -> None:
    index.offer('data-yanked="deletes everything"')
    with pytest.raises(PackageError, match=r"(?s)withdrawn by its author.*deletes everything"):
        fetch(THIS_MACHINE, [locked(index.wheel.read_bytes())], tmp_path / "cache")
    with pytest.raises(PackageError, match="withdrawn"):
        fetch(THIS_MACHINE, [locked(index.wheel.read_bytes())], tmp_path / "cache")


def test_a_package_without_a_wheel_for_azure_is_refused(index: Index, tmp_path: Path) -> None:
    wheel = make_wheel(index.folder, LICENCE, "demo-1-cp313-cp313-macosx_11_0_arm64.whl")
    index.offer(wheel=wheel.name)
    with pytest.raises(PackageError, match=r"No matching distribution found for demo==1"):
        fetch(AZURE, [locked(wheel.read_bytes())], tmp_path / "cache")


def test_the_package_is_for_the_python_that_the_infrastructure_asks_for() -> None:
    template = (PROJECT / "infra/modules/functionapp.bicep").read_text(encoding="utf-8")
    assert f"name: 'python'\n        version: '{AZURE.python}'" in template
    assert AZURE.environment["python_version"] == AZURE.python


# -- the whole ---------------------------------------------------------------------------------------------------------


def test_a_package_for_another_python_is_refused(project: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"for Python 3\.99 and this is 3\.\d+: make package PYTHON_VERSION=3\.99"):
        build(project, tmp_path / "out", Target(python="3.99"))


def test_no_package_is_left_behind_when_the_next_one_cannot_be_built(project: Path, tmp_path: Path) -> None:
    write(tmp_path / "out", {"app.zip": "the one before"})
    write(project, {"secret.txt": ""})
    with pytest.raises(PackageError):
        build(project, tmp_path / "out", THIS_MACHINE)
    assert not (tmp_path / "out/app.zip").exists()


def test_what_is_in_the_package_has_no_date_and_is_compiled(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(tmp_path, {"demo/__init__.py": "", **LICENCE})
    monkeypatch.setattr(wheels, "fetch", lambda *_: [wheel])
    package = build(project, tmp_path / "out", THIS_MACHINE)
    with zipfile.ZipFile(package.zip) as archive:
        names = archive.namelist()
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert names == sorted(names)
    site = ".python_packages/lib/site-packages"
    sources = [*(name for name in APP if name.endswith(".py")), f"{site}/demo/__init__.py"]
    for source in sources:
        folder, _, file = source.rpartition("/")
        compiled = f"{folder}/__pycache__/".lstrip("/") + file.removesuffix(".py")
        assert any(name.startswith(f"{compiled}.") for name in names), source
    others = {name for name in names if not name.startswith(site) and "__pycache__" not in name}
    assert others == set(APP)


def test_what_azd_uploads_is_the_package() -> None:
    """azd takes the folder as it is: no build in Azure, and its own .funcignore keeps the compiled modules in."""
    text = (PROJECT / "azure.yaml").read_text(encoding="utf-8")
    assert "    dist: .run/package/app\n    remoteBuild: false\n" in text
    assert 'azd: ">= 1.23.5"' in text
    assert "prepackage:\n        shell: sh\n        run: make package\n" in text
