"""Layers, and images over them, as a store of blobs: deterministic, shared between images, made once for each input.

A layer is a tar file whose bytes depend on names, contents, owners and modes only: times are zero, devices left out. An
image is a configuration and a list of layers. Both are blobs by SHA-256, as in an OCI layout.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
NOT_IN_LAYERS = ("dev", "proc", "sys", "run")
"""Folders whose content is the container runtime's business."""
EPOCH = "1970-01-01T00:00:00Z"
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Blob:
    """A file of the store, by digest ("sha256:…")."""

    digest: str
    size: int


@dataclass(frozen=True)
class Layer:
    """A tar file, and the folder that it was made of where other layers are built over it."""

    blob: Blob
    tree: Path | None = None


@dataclass(frozen=True)
class Image:
    """What a container runtime needs to know of an image."""

    name: str
    config: Blob
    layers: tuple[Blob, ...]


class Store:
    """Blobs, layers by key, and images by name, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("blobs/sha256", "layers", "trees", "images", "work"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """The file of a blob."""
        return self._folder / "blobs" / digest.replace(":", "/")

    def layer(
        self, name: str, inputs: Sequence[str], fill: Callable[[Path], None], *,
        below: Sequence[Layer] = (), keep_tree: bool = False,
    ) -> Layer:
        """The layer that `fill` writes into the root folder it is given, over the layers `below` that have trees.

        Made anew when one of `inputs`, or a layer below, is another one than last time.
        """
        key = _digest(json.dumps([name, *inputs, *(item.blob.digest for item in below)]).encode())[7:27]
        record, tree = self._folder / "layers" / f"{name}-{key}.json", self._folder / "trees" / f"{name}-{key}"
        if record.exists() and (tree.exists() or not keep_tree):
            blob = Blob(**json.loads(record.read_text("utf-8")))
            if self.path(blob.digest).exists():
                return Layer(blob, tree if keep_tree else None)
        work = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._folder / "work"))
        try:
            upper = work / "upper"
            upper.mkdir()
            with over([item.tree for item in below if item.tree], upper, work) as root:
                fill(root)
            blob = self._pack(upper)
            if keep_tree:
                shutil.rmtree(tree, ignore_errors=True)
                upper.rename(tree)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        record.write_text(json.dumps(asdict(blob)), "utf-8")
        return Layer(blob, tree if keep_tree else None)

    def image(self, name: str, layers: Sequence[Layer], settings: Mapping[str, Any]) -> Image:
        """The image of that name from now on: `settings` is the "config" of the OCI image configuration."""
        blobs = tuple(item.blob for item in layers)
        config = {
            "architecture": "amd64", "os": "linux", "created": EPOCH, "config": dict(settings),
            "rootfs": {"type": "layers", "diff_ids": [blob.digest for blob in blobs]},
            "history": [{"created": EPOCH, "created_by": "tools/cluster/images.py"} for _ in blobs],
        }
        made = Image(name, self.put(_json(config)), blobs)
        self._record(name).write_text(json.dumps(asdict(made), indent=1), "utf-8")
        return made

    def named(self, name: str) -> Image:
        """The image of that name; SystemExit with a sentence when there is none."""
        if not self._record(name).exists():
            raise SystemExit(f"images: no image {name}: build it first")
        known = json.loads(self._record(name).read_text("utf-8"))
        return Image(known["name"], Blob(**known["config"]), tuple(Blob(**item) for item in known["layers"]))

    def prune(self, *, older_s: float = 3600.0) -> None:
        """Delete what no image is made of any more; not what is younger, which somebody may be at work with."""
        images = [json.loads(path.read_text("utf-8")) for path in (self._folder / "images").iterdir()]
        used = {blob["digest"] for image in images for blob in (image["config"], *image["layers"])}
        oldest_s = time.time() - older_s
        for path in (self._folder / "blobs" / "sha256").iterdir():
            if f"sha256:{path.name}" not in used and path.stat().st_mtime < oldest_s:
                path.unlink()
        for path in (self._folder / "work").iterdir():  # of a builder that was killed
            if path.stat().st_mtime < oldest_s - 86_400:
                shutil.rmtree(path, ignore_errors=True)
        for record in (self._folder / "layers").iterdir():
            if not self.path(json.loads(record.read_text("utf-8"))["digest"]).exists():
                record.unlink()
                shutil.rmtree(self._folder / "trees" / record.stem, ignore_errors=True)

    def put(self, content: bytes) -> Blob:
        """A small blob."""
        blob = Blob(_digest(content), len(content))
        self.path(blob.digest).write_bytes(content)
        return blob

    def _record(self, name: str) -> Path:
        return self._folder / "images" / f"{name.replace('/', '_')}.json"

    def _pack(self, folder: Path) -> Blob:
        handle, place = tempfile.mkstemp(dir=self._folder / "work")
        with os.fdopen(handle, "wb") as file:
            sink = _Hashing(file)
            write_layer(folder, sink)
        Path(place).chmod(0o644)
        blob = Blob(f"sha256:{sink.hash.hexdigest()}", sink.size)
        Path(place).rename(self.path(blob.digest))
        return blob


@contextmanager
def over(lowers: Sequence[Path], upper: Path, work: Path) -> Iterator[Path]:
    """A folder that shows `lowers` (the first one lowest), where every change lands in `upper`."""
    if not lowers:
        yield upper
        return
    root = work / "root"
    for folder in (root, work / "overlay"):
        folder.mkdir()
    shown = ":".join(str(path) for path in reversed(lowers))
    options = f"lowerdir={shown},upperdir={upper},workdir={work / 'overlay'},redirect_dir=off,metacopy=off"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, root], check=True)
    try:
        yield root
    finally:
        subprocess.run(["umount", root], check=True)


def write_layer(folder: Path, out: Any) -> None:
    """The files under `folder` as a tar; what an overlay marks as removed becomes a whiteout."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK_BYTES) as tar:
        tar.copybufsize = CHUNK_BYTES
        for path in _sorted(folder):
            name = str(path.relative_to(folder))
            kind = path.lstat().st_mode
            if stat.S_ISCHR(kind):
                _empty(tar, str(Path(name).parent / f".wh.{path.name}"))
                continue
            if stat.S_ISSOCK(kind):
                continue
            entry = tar.gettarinfo(path, arcname=name)
            entry.mtime = 0
            entry.uname = entry.gname = ""
            if entry.isreg():
                with path.open("rb") as content:
                    tar.addfile(entry, content)
            else:
                tar.addfile(entry)
            if stat.S_ISDIR(kind) and _replaces(path):
                _empty(tar, f"{name}/.wh..wh..opq")


def write_archive(store: Store, image: Image, out: Any, *, absent: frozenset[str] = frozenset()) -> None:
    """`image` as one tar: a docker archive and an OCI layout at once. Blobs in `absent` are left out: a receiver that
    has them already needs no second copy.
    """
    manifest = {
        "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, **asdict(image.config)},
        "layers": [{"mediaType": LAYER_TYPE, **asdict(layer)} for layer in image.layers],
    }
    described = store.put(_json(manifest))
    index = {
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": MANIFEST_TYPE, **asdict(described),
            "annotations": {"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": image.name},
        }],
    }
    docker = [{
        "Config": _member(image.config.digest), "RepoTags": [image.name],
        "Layers": [_member(layer.digest) for layer in image.layers],
    }]
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK_BYTES) as tar:
        tar.copybufsize = CHUNK_BYTES
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", _json(index))
        _add(tar, "manifest.json", _json(docker))
        for blob in dict.fromkeys((described, image.config, *image.layers)):
            if blob.digest not in absent:
                entry = tarfile.TarInfo(_member(blob.digest))
                entry.size = blob.size
                with store.path(blob.digest).open("rb") as content:
                    tar.addfile(entry, content)


class _Hashing:
    """A file that is written to once, and knows its digest."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, content: bytes) -> int:
        self.hash.update(content)
        self.size += len(content)
        return int(self._file.write(content))


def _sorted(folder: Path) -> Iterator[Path]:
    """Everything below `folder` but what containers get anew, parents first, by name."""
    for name in sorted(os.listdir(folder)):
        path = folder / name
        yield path
        if path.is_dir() and not path.is_symlink() and name not in NOT_IN_LAYERS:
            yield from _below(path)


def _below(folder: Path) -> Iterator[Path]:
    for name in sorted(os.listdir(folder)):
        path = folder / name
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)


def _replaces(folder: Path) -> bool:
    """Whether an overlay's folder hides the one below it instead of adding to it."""
    try:
        return os.getxattr(folder, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def _empty(tar: tarfile.TarFile, name: str) -> None:
    tar.addfile(tarfile.TarInfo(name))


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _member(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
