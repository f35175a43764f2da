"""Layers and archives of tools/cluster/image_store.py: the same bytes from the same files, and nothing twice."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

from unit.tools.loading import loaded

images = loaded("image_store")


def fill(root: Path) -> None:
    (root / "etc").mkdir()
    (root / "etc" / "b").write_text("two")
    (root / "etc" / "a").symlink_to("b")
    (root / "proc").mkdir()
    (root / "proc" / "1").write_text("of this machine")


def members(blob: Path) -> list[str]:
    with tarfile.open(blob) as tar:
        return tar.getnames()


def test_a_layer_has_the_same_bytes_whenever_and_wherever_its_files_were_written(tmp_path: Path) -> None:
    def late(root: Path) -> None:
        fill(root)
        os.utime(root / "etc" / "b", (1, 1))

    first = images.Store(tmp_path / "one").layer("a", ["x"], fill)
    second = images.Store(tmp_path / "two").layer("a", ["x"], late)
    assert first.blob == second.blob


def test_a_layer_is_made_once_for_the_same_inputs_and_anew_for_others(tmp_path: Path) -> None:
    store, calls = images.Store(tmp_path), []

    def counted(root: Path) -> None:
        calls.append(root)
        fill(root)

    for inputs in (["x"], ["x"], ["y"]):
        store.layer("a", inputs, counted)
    assert len(calls) == 2


def test_a_layer_that_could_not_be_made_leaves_nothing(tmp_path: Path) -> None:
    store = images.Store(tmp_path)

    def broken(root: Path) -> None:
        fill(root)
        raise OSError("no space")

    for _ in range(2):
        try:
            store.layer("a", ["x"], broken)
        except OSError:
            continue
        raise AssertionError("a broken layer was taken")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_layer_holds_no_content_of_folders_that_containers_get_anew(tmp_path: Path) -> None:
    store = images.Store(tmp_path)
    layer = store.layer("a", ["x"], fill)
    assert members(store.path(layer.blob.digest)) == ["etc", "etc/a", "etc/b", "proc"]


def test_pruning_deletes_what_no_image_is_made_of_and_keeps_the_rest(tmp_path: Path) -> None:
    store = images.Store(tmp_path)
    old, new = (store.layer("a", [name], lambda root, name=name: (root / name).mkdir()) for name in "xy")
    store.image("localhost/try:1", [old], {})
    store.image("localhost/try:1", [new], {})
    store.prune()
    assert store.path(old.blob.digest).exists()  # young: perhaps an image is being made of it
    store.prune(older_s=0.0)
    assert not store.path(old.blob.digest).exists()
    assert store.path(new.blob.digest).exists()


def test_an_archive_is_read_as_docker_and_as_oci_and_leaves_out_what_the_receiver_has(tmp_path: Path) -> None:
    store = images.Store(tmp_path)
    layer = store.layer("a", ["x"], fill)
    image = store.image("localhost/try:1", [layer], {"Cmd": ["/try"]})
    assert store.named("localhost/try:1") == image
    whole, thin = io.BytesIO(), io.BytesIO()
    images.write_archive(store, image, whole)
    images.write_archive(store, image, thin, absent=frozenset({layer.blob.digest}))
    with tarfile.open(fileobj=io.BytesIO(whole.getvalue())) as tar:
        (docker,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        (described,) = json.load(tar.extractfile("index.json"))["manifests"]  # type: ignore[arg-type]
        manifest = json.load(tar.extractfile(f"blobs/{described['digest'].replace(':', '/')}"))  # type: ignore[arg-type]
        config = json.load(tar.extractfile(docker["Config"]))  # type: ignore[arg-type]
        names = tar.getnames()
    assert docker["RepoTags"] == [described["annotations"]["io.containerd.image.name"]] == ["localhost/try:1"]
    assert config["rootfs"]["diff_ids"] == [item["digest"] for item in manifest["layers"]] == [layer.blob.digest]
    assert docker["Layers"] == [f"blobs/{layer.blob.digest.replace(':', '/')}"]
    with tarfile.open(fileobj=io.BytesIO(thin.getvalue())) as tar:
        assert set(names) - set(tar.getnames()) == set(docker["Layers"])
