#!/usr/bin/env python3
"""Makes the project's images without a container engine or an image registry, and gives them to containerd.

    images.py build [--tag TAG] [light] [model] [kafka] [postgres]    needs root, debootstrap and .venv
    images.py program NAME:TAG FILE PATH [--user UID]                 an image of one static program
    images.py load SOCKET NAME:TAG…                                   into containerd: only layers that it has not
    images.py archive NAME:TAG FILE                                   for docker load, kind load, skopeo

The same images as services/Dockerfile makes, over Debian's userland. Third-party packages are layers of their own, made
once a lock; our code is the last one, a few megabytes. The same inputs and Debian packages give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from image_store import Layer, Store, write_archive

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "localhost/"
"""Before every name: an image that no registry is asked for."""
LIGHT = ("kubernetes",)
"""Extras of the light image: training keeps its jobs by it."""
LIGHT_BYTES_MAX = 1_000_000_000
"""Of the light image, unpacked."""
NOT_ASKED = tuple((ROOT / "tools" / "unused_files.txt").read_text("utf-8").split())
"""What nobody of ours imports, 180 MB. The model image has kubernetes again, whole: KServe's library asks for it."""
USER = 10001
LENT = stat.S_ISUID | stat.S_ISGID
"""Bits of a program's mode."""
PLACE = "opt/xinstruct"
"""The virtual environment in the image, as in services/Dockerfile."""
PACKAGES = f"{PLACE}/lib/python3.11/site-packages"
SUITE = "bookworm"
PATHS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CHART = ROOT / "charts" / "xinstruct" / "Chart.yaml"
MODEL_EXTRAS = ("model", "predictor", "serve", "--without")
"""What the model image has beside the light one: torch, our predictor, and what `transformers serve` needs."""
NOT_KEPT = (
    "var/cache/*", "var/lib/apt/lists/*", "var/log/*", "var/lib/dpkg/*-old",
    "etc/*-", "etc/machine-id", "etc/resolv.conf",
    "usr/share/man/*/*", "usr/share/info/*", "usr/share/locale/*", "usr/share/lintian/*", "tmp/*", "root/.cache",
    # Keys and stores that differ from one installation to the next, and that nobody here uses.
    "etc/ssl/private/ssl-cert-snakeoil.key", "etc/ssl/certs/ssl-cert-snakeoil.pem", "etc/ssl/certs/java/cacerts",
)


def main() -> None:
    """Do what the command line says."""
    options = _parser().parse_args()
    store = Store(_cache() / "images")
    options.work(store, options)


def build(store: Store, options: argparse.Namespace) -> None:
    """Make the chosen images, and say how large they are."""
    for name in options.images or IMAGES:
        layers, config = IMAGES[name](store)
        shown = {"Labels": {"org.opencontainers.image.version": options.tag}, **config}
        repository = "xinstruct" if name == "light" else f"xinstruct-{name}"
        image = store.image(f"{PREFIX}{repository}:{options.tag}", layers, shown)
        megabytes = " + ".join(f"{layer.blob.size / 1e6:.0f}" for layer in layers)
        store.prune()
        size = sum(layer.size for layer in image.layers)
        print(f"images: {image.name}: {size / 1e6:.0f} MB ({megabytes})")
        if name == "light" and size > LIGHT_BYTES_MAX:
            raise SystemExit(f"images: the light image has {size:,} bytes, more than {LIGHT_BYTES_MAX:,}: "
                             "see which layer grew, and what of it nobody of ours imports (tools/unused_files.txt)")


def light(store: Store) -> tuple[list[Layer], Mapping[str, Any]]:
    """Everything but inference and training in process."""
    below = [base(store), *python(store)]
    kept = packages(store, "light", LIGHT, below, NOT_ASKED)
    return [*below, unprivileged(store), kept, code(store, below)], OURS


def model(store: Store) -> tuple[list[Layer], Mapping[str, Any]]:
    """The light image's layers, torch and its like, and the small base model."""
    below = [base(store), *python(store)]
    kept = [packages(store, "light", LIGHT, below, NOT_ASKED), packages(store, "model", MODEL_EXTRAS, below)]
    return [*below, unprivileged(store), *kept, base_model(store), code(store, below)], OURS


def kafka(store: Store) -> tuple[list[Layer], Mapping[str, Any]]:
    """Java 17 and a broker's jars, by Maven."""
    java = debian(store, "java", ["openjdk-17-jre-headless"], [base(store)])
    pom = ROOT / "tools" / "kafka" / "pom.xml"

    def fill(root: Path) -> None:
        libraries = root / "opt" / "kafka" / "libs"
        _run("mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={libraries}")

    jars = store.layer("kafka", [pom.read_text("utf-8"), RECIPES["kafka"]], fill)
    return [base(store), unprivileged(store), java, jars], settings(PATHS)


def postgres(store: Store) -> tuple[list[Layer], Mapping[str, Any]]:
    """Debian's PostgreSQL, its programs in PATH."""
    server = debian(store, "postgres", ["postgresql-15"], [base(store)])
    return [base(store), unprivileged(store), server], settings(f"/usr/lib/postgresql/15/bin:{PATHS}")


def base(store: Store) -> Layer:
    """Debian's smallest userland, with the user that our pods run as."""

    def fill(root: Path) -> None:
        _run("debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, root, _mirrors()[SUITE])
        (root / "etc/apt/sources.list").write_text(_sources(), "utf-8")
        # Pages of manuals are not unpacked; copyrights are.
        (root / "etc/dpkg/dpkg.cfg.d/10-small").write_text(
            "".join(f"path-exclude=/usr/share/{name}/*\n" for name in ("doc", "info", "locale", "lintian"))
            + "path-exclude=/usr/share/man/*/*\npath-include=/usr/share/doc/*/copyright\n", "utf-8")
        (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n", "utf-8")
        (root / "usr/sbin/policy-rc.d").chmod(0o755)
        with (root / "etc/passwd").open("a") as file:
            file.write(f"xinstruct:x:{USER}:{USER}::/tmp:/usr/sbin/nologin\n")
        with (root / "etc/group").open("a") as file:
            file.write(f"xinstruct:x:{USER}:\n")
        _remove(root, [*NOT_KEPT, "usr/share/doc/*/[!c]*"])

    return store.layer("base", [SUITE, RECIPES["base"]], fill, keep_tree=True)


def unprivileged(store: Store) -> Layer:
    """Debian's programs that lend their caller another user's rights, without that: no pod of ours may use it."""

    def fill(root: Path) -> None:
        for path in root.rglob("*"):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and mode & LENT:
                path.chmod(stat.S_IMODE(mode) & ~LENT)

    return store.layer("unprivileged", [RECIPES["unprivileged"]], fill, below=[base(store)])


def python(store: Store) -> list[Layer]:
    """Debian's Python 3.11, compiled in a way that asks for no file's time."""

    def fill(root: Path) -> None:
        _apt(root, ["python3"])
        _compile(root, ["/usr/lib/python3.11", "/usr/lib/python3/dist-packages"])

    return [store.layer("python", [RECIPES["python"]], fill, below=[base(store)], keep_tree=True)]


def debian(store: Store, name: str, wanted: Sequence[str], below: Sequence[Layer]) -> Layer:
    """Debian packages over other layers."""

    def fill(root: Path) -> None:
        # Its script would make a cluster of its own.
        (root / "etc/postgresql-common").mkdir(parents=True, exist_ok=True)
        (root / "etc/postgresql-common/createcluster.conf").write_text("create_main_cluster = false\n", "utf-8")
        _apt(root, wanted)

    return store.layer(name, [*wanted, RECIPES["debian"]], fill, below=below)


def packages(
    store: Store, name: str, cut: Sequence[str], below: Sequence[Layer], unused: Sequence[str] = ()
) -> Layer:
    """The locked packages of some extras, without files `unused`: wheels only, each checked against its hash."""
    lock = _output(sys.executable, ROOT / "tools" / "cut_lock.py", *cut)

    def fill(root: Path) -> None:
        place = root / PACKAGES
        place.mkdir(parents=True)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(lock)
            file.flush()
            _run(
                ROOT / ".venv/bin/uv", "pip", "install", "--quiet", "--target", place, "-r", file.name, "--no-deps",
                "--require-hashes", "--only-binary", ":all:", "--python-version", "3.11", "--link-mode", "copy",
            )
        # Commands of libraries, with this machine's interpreter in them; and a lock file of the installer.
        shutil.rmtree(place / "bin", ignore_errors=True)
        (place / ".lock").unlink(missing_ok=True)
        for tests in [path for path in place.rglob("tests") if path.is_dir()]:  # of libraries: a tenth of the image
            shutil.rmtree(tests, ignore_errors=True)
        _remove(place, unused)
        _compile(root, [f"/{PACKAGES}"])

    return store.layer(f"packages-{name}", [lock, *unused, RECIPES["packages"]], fill, below=below)


def code(store: Store, below: Sequence[Layer]) -> Layer:
    """Our wheel, and the virtual environment around it."""
    with tempfile.TemporaryDirectory() as folder:
        _run(ROOT / ".venv/bin/python", "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
        (wheel,) = Path(folder).glob("*.whl")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()

        def fill(root: Path) -> None:
            place = root / PACKAGES
            place.mkdir(parents=True)
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(place)
            (root / PLACE / "pyvenv.cfg").write_text(
                "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n", "utf-8")
            commands = root / PLACE / "bin"
            commands.mkdir()
            for name in ("python", "python3"):
                (commands / name).symlink_to("/usr/bin/python3.11")
            start = "import sys\n\nfrom xinstruct.cli.main import main\n\nsys.exit(main())\n"
            (commands / "xinstruct").write_text(f"#!/{PLACE}/bin/python\n{start}", "utf-8")
            (commands / "xinstruct").chmod(0o755)
            _compile(root, [f"/{PACKAGES}/xinstruct"])

        return store.layer("code", [digest, RECIPES["code"]], fill, below=below)


def base_model(store: Store) -> Layer:
    """models/ where the installed demo looks for it: beside site-packages' folder."""
    files = sorted(path for path in (ROOT / "models").rglob("*") if path.is_file())
    digests = [f"{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]

    def fill(root: Path) -> None:
        shutil.copytree(ROOT / "models", root / PLACE / "lib/python3.11/models")

    return store.layer("base-model", [*digests, RECIPES["base_model"]], fill)


def settings(paths: str) -> Mapping[str, Any]:
    """The "config" of an image: a numeric user, and nothing that asks for one place to write to."""
    variables = [f"PATH={paths}", "LANG=C.UTF-8", "HOME=/tmp", "LOGNAME=xinstruct"]
    return {"User": f"{USER}:{USER}", "WorkingDir": "/tmp", "Env": variables}


def program(store: Store, options: argparse.Namespace) -> None:
    """An image that holds one static program and an empty /tmp."""
    content = options.file.read_bytes()

    def fill(root: Path) -> None:
        (root / "tmp").mkdir()
        (root / "tmp").chmod(0o1777)
        place = root / options.path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        place.chmod(0o755)

    layer = store.layer("program", [options.path, hashlib.sha256(content).hexdigest(), RECIPES["program"]], fill)
    made = {"Entrypoint": [options.path], "User": options.user, "WorkingDir": "/", "Env": [f"PATH={PATHS}"]}
    print(store.image(options.name, [layer], made).name)


OURS = {**settings(f"/{PLACE}/bin:{PATHS}"), "Cmd": ["xinstruct", "--help"]}
RECIPES = {
    made.__name__: inspect.getsource(made)
    for made in (base, unprivileged, python, debian, kafka, packages, code, base_model, program)
}
"""A recipe's own text: when it changes, its layer is made anew. Read before anybody edits this file again."""
IMAGES: Mapping[str, Callable[[Store], tuple[list[Layer], Mapping[str, Any]]]] = {
    "light": light, "model": model, "kafka": kafka, "postgres": postgres,
}


def load(store: Store, options: argparse.Namespace) -> None:
    """Give images to containerd, without the layers that it has."""
    containerd = ["ctr", "-a", options.socket, "-n", "k8s.io"]
    for name in options.names:
        known = frozenset(_output(*containerd, "content", "ls", "-q").split())
        receiver = [*containerd, "images", "import", "-"]
        sender = subprocess.Popen(receiver, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert sender.stdin is not None
        with sender.stdin:
            write_archive(store, store.named(name), sender.stdin, absent=known)
        if sender.wait():
            raise SystemExit(f"images: containerd did not take {name}")


def archive(store: Store, options: argparse.Namespace) -> None:
    """Write a whole image into one file."""
    with options.file.open("wb") as file:
        write_archive(store, store.named(options.name), file)


def _apt(root: Path, wanted: Sequence[str]) -> None:
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    with _process_folder(root):
        _inside(root, "apt-get", "update", "-qq")
        _inside(root, "apt-get", "install", "-qq", "-y", "--no-install-recommends", *wanted)
    _remove(root, NOT_KEPT)


def _compile(root: Path, places: Sequence[str]) -> None:
    """Bytecode of every module, by the image's own Python: its root file system cannot be written to at run time. It is
    not compared with its source then, whose time is zero.
    """
    for place in places:
        shutil.rmtree(root / place.lstrip("/") / "__pycache__", ignore_errors=True)
    # A library's templates and tests of syntax that this Python does not have fail: they are no modules.
    _inside(root, "/usr/bin/python3.11", "-m", "compileall", "-q", "-q", "-f", "-j", str(os.cpu_count() or 1),
            "--invalidation-mode", "unchecked-hash", *places, check=False)


def _inside(root: Path, *command: str, check: bool = True) -> None:
    variables = {"PATH": PATHS, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/tmp"}
    passed = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    _run("chroot", root, *command, env={**variables, **passed}, check=check)


@contextmanager
def _process_folder(root: Path) -> Any:
    """Java's scripts insist on /proc."""
    _run("mount", "-t", "proc", "proc", root / "proc")
    try:
        yield
    finally:
        _run("umount", root / "proc")


def _remove(root: Path, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _mirrors() -> dict[str, str]:
    """Suite → the mirror that this machine's apt takes it from. SystemExit where it is no Debian with that suite."""
    shown = "$(CODENAME) $(REPO_URI) $(COMPONENT)"
    listed = _output("apt-get", "indextargets", "--format", shown, "Created-By: Packages")
    found = {words[0]: words[1] for words in map(str.split, listed.splitlines()) if words[2:] == ["main"]}
    if SUITE not in found:
        raise SystemExit(f"images: this machine's apt has no source of Debian {SUITE}")
    return found


def _sources() -> str:
    names = [name for name in (SUITE, f"{SUITE}-updates", f"{SUITE}-security") if name in _mirrors()]
    return "".join(f"deb {_mirrors()[name]} {name} main\n" for name in names)


def _run(*command: str | Path, env: Mapping[str, str] | None = None, check: bool = True) -> None:
    """Run it in silence; SystemExit with the end of what it said when it failed."""
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode and check:
        raise SystemExit(f"images: {Path(command[0]).name} failed\n{(done.stdout or '')[-2000:]}")


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout


def _cache() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("XINSTRUCT_CLUSTER_CACHE") or f"{caches}/xinstruct-cluster")


def _version() -> str:
    found = re.search(r"^appVersion: (\S+)$", CHART.read_text("utf-8"), re.MULTILINE)
    assert found
    return found[1]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    builder = commands.add_parser("build")
    builder.set_defaults(work=build)
    builder.add_argument("--tag", default=_version(), help="default: the chart's appVersion")
    builder.add_argument("images", nargs="*", choices=[*IMAGES, []])
    single = commands.add_parser("program")
    single.set_defaults(work=program)
    single.add_argument("name")
    single.add_argument("file", type=Path)
    single.add_argument("path")
    single.add_argument("--user", default="")
    loader = commands.add_parser("load")
    loader.set_defaults(work=load)
    loader.add_argument("socket")
    loader.add_argument("names", nargs="+")
    writer = commands.add_parser("archive")
    writer.set_defaults(work=archive)
    writer.add_argument("name")
    writer.add_argument("file", type=Path)
    return parser


if __name__ == "__main__":
    main()
