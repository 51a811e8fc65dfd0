"""Weights on disk: they come back equal, run no code, and a damaged folder is one line."""

import errno
import json
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from segpipe.core.errors import ArtifactError, MachineError
from segpipe.core.fingerprint import file_sha256
from segpipe.nets.checkpoint import (
    FORMAT,
    MODEL,
    WEIGHTS,
    load_model,
    load_tensors,
    model_folders,
    save_model,
    save_tensors,
)
from segpipe.nets.precision import laid_out
from segpipe.nets.unet import UNet, UNetConfig

NOTES = {"plan": {"spacing": [1.0, 2.0]}, "Größe": "ß"}


def network_of(norm: str = "instance", padding: str = "same") -> UNet:
    torch.manual_seed(1)
    config = UNetConfig.model_validate(
        {"features": 4, "norm": norm, "padding": padding, "deep_supervision": padding == "same"}
    )
    return config.spec(2, 3, ((2, 2), (1, 2)), ((3, 3), (3, 3), (1, 3))).build()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", network_of(), NOTES)
    return tmp_path / "model"


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("norm", ["instance", "batch", "group", "none"])
def test_a_model_comes_back_with_the_same_output(tmp_path: Path, norm: str, padding: str) -> None:
    network = network_of(norm, padding)
    image = torch.randn(2, 2, 40, 44)
    network.train()(image)  # batch norm learns statistics that must be kept too
    save_model(tmp_path, network, NOTES)
    found = load_model(tmp_path)
    assert found.network.spec == network.spec
    assert not found.network.training
    with torch.inference_mode():
        assert torch.equal(found.network(image), network.eval()(image))
    assert all(not p.is_meta and p.dtype == torch.float32 for p in found.network.parameters())
    assert {key: found.notes[key] for key in NOTES} == NOTES


def test_a_loaded_model_can_be_trained_further(folder: Path) -> None:
    network = load_model(folder).network.train()
    network(torch.randn(1, 2, 8, 8)).square().mean().backward()
    assert all(p.requires_grad for p in network.parameters())
    assert network.encoder.blocks[0][0].weight.grad is not None


def test_a_model_laid_out_for_speed_is_stored_the_same(folder: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "fast", laid_out(network_of(), 2, "cpu"), NOTES)
    assert file_sha256(tmp_path / "fast" / WEIGHTS) == file_sha256(folder / WEIGHTS)


def test_a_model_folder_holds_numbers_and_json_and_no_code(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted([WEIGHTS, MODEL])
    raw = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F32"}
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    assert len(raw) == 8 + length + end  # nothing behind the numbers
    assert b"pickle" not in raw[: 8 + length]
    described = json.loads((folder / MODEL).read_text())
    assert described["format"] == FORMAT == 1
    assert described["weights_sha256"] == file_sha256(folder / WEIGHTS)


def test_saving_twice_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "again", network_of(), NOTES)
    for name in (WEIGHTS, MODEL):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def changed(folder: Path, **fields: Any) -> None:
    described = json.loads((folder / MODEL).read_text())
    (folder / MODEL).write_text(json.dumps(described | fields))


def damage_weights(folder: Path) -> None:
    raw = bytearray((folder / WEIGHTS).read_bytes())
    raw[-5] ^= 1
    (folder / WEIGHTS).write_bytes(bytes(raw))


def cut_weights(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def cut_weights_and_sign(folder: Path) -> None:
    cut_weights(folder)
    changed(folder, weights_sha256=file_sha256(folder / WEIGHTS))


def weights_of_another(folder: Path) -> None:
    save_tensors(folder / WEIGHTS, {"a": torch.zeros(2)}, {})
    changed(folder, weights_sha256=file_sha256(folder / WEIGHTS))


def weights_of_another_size(folder: Path) -> None:
    other = UNetConfig(features=5).spec(2, 3, ((2, 2), (1, 2)), ((3, 3), (3, 3), (1, 3))).build()
    save_tensors(folder / WEIGHTS, other.state_dict(), {})
    changed(folder, weights_sha256=file_sha256(folder / WEIGHTS))


def unsigned(folder: Path) -> None:
    described = json.loads((folder / MODEL).read_text())
    del described["weights_sha256"]
    (folder / MODEL).write_text(json.dumps(described))


def unknown_network_field(folder: Path) -> None:
    network = json.loads((folder / MODEL).read_text())["network"]
    changed(folder, network=network | {"attention": True})


def later_format(folder: Path) -> None:
    changed(folder, format=FORMAT + 1, network={"kind": "something new"})


HARMS = {
    "no_folder": (shutil.rmtree, "not a model folder"),
    "no_weights": (lambda folder: (folder / WEIGHTS).unlink(), "weights are missing or not those"),
    "no_description": (lambda folder: (folder / MODEL).unlink(), "not a model folder"),
    "one_bit": (damage_weights, "missing or not those of model.json"),
    "cut": (cut_weights, "missing or not those of model.json"),
    "cut_and_signed": (cut_weights_and_sign, "no readable weights"),
    "other_weights": (weights_of_another, "do not fit"),
    "other_widths": (weights_of_another_size, "do not fit"),
    "unsigned": (unsigned, "not a model folder"),
    "no_json": (lambda folder: (folder / MODEL).write_text("{"), "not a model folder"),
    "binary": (lambda folder: (folder / MODEL).write_bytes(b"\xff\xfe\x00"), "not a model folder"),
    "a_list": (lambda folder: (folder / MODEL).write_text("[1]"), "not a model folder"),
    "no_network": (lambda folder: changed(folder, network=None), "not a model folder"),
    "unknown_field": (unknown_network_field, "not a model folder"),
    "later_format": (later_format, "model format 2; this segpipe reads 1"),
    "no_format": (lambda folder: changed(folder, format=None), "model format None; this segpipe reads 1"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_model_is_one_line_that_names_the_folder(folder: Path, harm: str) -> None:
    do, said = HARMS[harm]
    do(folder)
    with pytest.raises(ArtifactError, match=said) as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tensors_and_a_json_value_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(2, 3), "b.c": torch.arange(4), "half": torch.ones(2, dtype=torch.bfloat16)}
    save_tensors(tmp_path / "x.safetensors", tensors, {"step": 3, "lists": [[1.5], None]})
    found, meta = load_tensors(tmp_path / "x.safetensors")
    assert meta == {"step": 3, "lists": [[1.5], None]}
    assert set(found) == set(tensors)
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in tensors)


def test_views_of_one_memory_and_grown_parameters_are_stored_whole(tmp_path: Path) -> None:
    base = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    save_tensors(tmp_path / "x.safetensors", {"a": base, "same": base, "turned": base.T, "part": base[:, 1]}, {})
    found, _ = load_tensors(tmp_path / "x.safetensors")
    assert torch.equal(found["turned"], base.T)
    assert torch.equal(found["part"], base[:, 1])
    assert torch.equal(found["a"], found["same"])


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff" * 100, b"\x80\x04pickled"])
def test_a_file_that_is_no_safetensors_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match="no readable weights") as caught:
        load_tensors(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_told_as_such(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("segpipe.nets.checkpoint.save_file", fail)
    with pytest.raises(MachineError, match=r"weights\.safetensors: the disk is full"):
        save_model(folder, network_of(), NOTES)


def test_weights_that_find_no_room_fail_with_the_systems_own_reason_and_the_old_ones_stay(folder: Path) -> None:
    before = (folder / WEIGHTS).read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            save_model(folder, network_of(), NOTES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert caught.value.errno == errno.EFBIG
    assert (folder / WEIGHTS).read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == sorted([WEIGHTS, MODEL])


def test_a_write_that_fails_half_way_leaves_the_old_model_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    other = network_of()
    with torch.no_grad():
        other.decoder.heads[0].bias.fill_(7)
    with pytest.raises(MachineError):
        save_model(folder, other, NOTES)
    assert (load_model(folder).network.decoder.heads[0].bias == 0).all()


def test_a_model_folder_is_its_own_only_model_whatever_else_lies_in_it(folder: Path) -> None:
    save_model(folder / "older", network_of(), NOTES)
    (folder / "README.md").write_text("x")
    assert model_folders(folder) == [folder]
    (folder / MODEL).unlink()  # half of one is none of several either
    assert model_folders(folder) == [folder]


def test_subfolders_that_are_models_are_found_by_name_links_too(tmp_path: Path, folder: Path) -> None:
    several = tmp_path / "several"
    for name in ("fold1-seed2", "fold0"):
        save_model(several / name, network_of(), NOTES)
    (several / "linked").symlink_to(folder)
    (several / "README.md").write_text("x")
    (several / ".cache").mkdir()
    assert model_folders(several) == [several / name for name in ("fold0", "fold1-seed2", "linked")]


def test_a_member_that_is_no_whole_model_is_not_left_out_unnoticed(tmp_path: Path, folder: Path) -> None:
    several = tmp_path / "several"
    several.mkdir()
    (several / "fold0").symlink_to(folder)
    for name in ("empty", "gone"):
        bad = several / name
        bad.mkdir() if name == "empty" else bad.symlink_to(tmp_path / "nowhere")
        assert bad in model_folders(several)
        with pytest.raises(ArtifactError, match=f"{name}: not a model folder"):
            [load_model(path) for path in model_folders(several)]
        bad.rmdir() if name == "empty" else bad.unlink()


def test_folders_without_any_model_are_told_by_their_own_name(tmp_path: Path) -> None:
    (tmp_path / "fold0").mkdir()
    assert model_folders(tmp_path) == [tmp_path]
    assert model_folders(tmp_path / "gone") == [tmp_path / "gone"]
