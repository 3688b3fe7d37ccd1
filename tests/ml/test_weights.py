import json
import struct

import pytest
import safetensors.torch
import torch

from network import weights

STATE = {
    "layer.weight": torch.randn(3, 4),
    "layer.half": torch.randn(5).to(torch.bfloat16),
    "bn.num_batches_tracked": torch.tensor(7),
    "mask": torch.tensor([True, False, True]),
    "empty": torch.empty(0, 4),
}


def test_the_library_reads_what_we_write(tmp_path):
    weights.write(tmp_path / "w.safetensors", STATE)
    theirs = safetensors.torch.load_file(tmp_path / "w.safetensors")
    assert theirs.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert theirs[name].dtype == tensor.dtype
        assert torch.equal(theirs[name], tensor)


def test_we_read_what_the_library_writes(tmp_path):
    safetensors.torch.save_file(STATE, tmp_path / "w.safetensors", metadata={"format": "pt"})
    ours = weights.read(tmp_path / "w.safetensors")
    assert ours.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert ours[name].dtype == tensor.dtype
        assert torch.equal(ours[name], tensor)


def file_of(header, body=b"", length=None):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 a zip",
        file_of({"w": ENTRY}),  # cut off
        file_of({"w": ENTRY}, bytes(8), length=2**60),
        file_of({"w": ENTRY | {"shape": [3]}}, bytes(8)),
        file_of({"w": ENTRY | {"shape": [-2]}}, bytes(8)),
        file_of({"w": ENTRY | {"data_offsets": [4, 12]}}, bytes(8)),
        file_of({"w": ENTRY | {"dtype": "F128"}}, bytes(8)),
        file_of(["w"], bytes(8)),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.safetensors' is no complete safetensors file"):
        weights.read(tmp_path / "w.safetensors")
