"""The files in tests/weights/files were written by PyTorch 2.13 with

import os, torch
from collections import OrderedDict

base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
module = torch.nn.Linear(3, 2)
with torch.no_grad():
    module.weight.copy_(torch.arange(6.0).reshape(2, 3))
    module.bias.copy_(torch.tensor([0.5, -0.5]))
values = module.state_dict()  # an OrderedDict with an attribute `_metadata`
values["parameter"] = torch.nn.Parameter(base[0].clone())
values["bfloat16"] = (base / 3).to(torch.bfloat16)
values["float16"] = (base / 3).to(torch.float16)
values["float64"] = base.double() / 3
values["int64"] = base.to(torch.int64) - 5
values["bool"] = base > 7
values["transposed"] = base.T
values["row"] = base[2]
values["every_second"] = base[1:, 1::2]
values["whole"] = base
values["expanded"] = torch.tensor([1.0, 2.0])[:, None].expand(2, 3)
values["scalar"] = torch.tensor(2.5)
values["empty"] = torch.zeros(0, 3)
torch.save(values, "tensors.pth")
torch.save({"epoch": 3, "state_dict": OrderedDict(a=base)}, "nested.pth")
torch.save({"a": base}, "legacy.pth", _use_new_zipfile_serialization=False)

class Code:
    def __reduce__(self):
        return os.system, ("echo code ran",)

torch.save({"a": base, "b": Code()}, "code.pth")
"""

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.weights.torch_reader import read_torch
from talkverse_jax.weights.torch_writer import write_torch

DATA = Path(__file__).parent / "files"
BASE = np.arange(24, dtype=np.float32).reshape(4, 6)


def _rewrite(source: Path, target: Path, change) -> Path:
    """A copy of a zip; `change(name, bytes)` gives new bytes and how to compress them."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data, compression = change(info.filename, old.read(info))
            new.writestr(info.filename, data, compression)
    return target


def test_dtypes_views_and_shared_storages():
    tensors = read_torch(DATA / "tensors.pth")
    expected = {
        "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "bias": np.array([0.5, -0.5], np.float32),
        "parameter": BASE[0],
        "bfloat16": (BASE / 3).astype(ml_dtypes.bfloat16),
        "float16": (BASE / 3).astype(np.float16),
        "float64": BASE.astype(np.float64) / 3,
        "int64": BASE.astype(np.int64) - 5,
        "bool": BASE > 7,
        "transposed": BASE.T,
        "row": BASE[2],
        "every_second": BASE[1:, 1::2],
        "whole": BASE,
        "expanded": np.array([[1, 1, 1], [2, 2, 2]], np.float32),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }
    assert tensors.keys() == expected.keys()
    for name, value in expected.items():
        assert tensors[name].dtype == value.dtype, name
        np.testing.assert_array_equal(tensors[name], value, err_msg=name)
    assert np.shares_memory(tensors["whole"], tensors["row"])
    assert not tensors["whole"].flags.writeable


def test_tensors_inside_a_training_checkpoint():
    tensors = read_torch(DATA / "nested.pth")
    assert list(tensors) == ["a"]
    np.testing.assert_array_equal(tensors["a"], BASE)


def test_code_is_refused_and_not_run():
    program = f"from talkverse_jax.weights.torch_reader import read_torch; read_torch({str(DATA / 'code.pth')!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "code ran" not in done.stdout
    with pytest.raises(UserError, match=r"code\.pth: holds code \(\w+\.system\); only tensors are read"):
        read_torch(DATA / "code.pth")


@pytest.mark.parametrize(
    "call",
    [
        pickle.dumps(os.getcwd, 2),  # STACK_GLOBAL's older sister
        pickle.dumps(os.getcwd, 4),
        b"(S'echo hi'\nios\nsystem\n.",  # INST
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"ctorch._utils\n_rebuild_device_tensor_from_numpy\n.",
    ],
)
def test_no_spelling_of_a_call_gets_through(tmp_path, call):
    path = _rewrite(
        DATA / "nested.pth",
        tmp_path / "a.pth",
        lambda name, data: (call if name.endswith("data.pkl") else data, zipfile.ZIP_STORED),
    )
    with pytest.raises(UserError, match="holds code"):
        read_torch(path)


def test_old_format():
    with pytest.raises(UserError, match="format of before 1.6; save it again"):
        read_torch(DATA / "legacy.pth")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_truncated(tmp_path, share):
    data = (DATA / "tensors.pth").read_bytes()
    path = tmp_path / "cut.pth"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"cut\.pth: (cut short; get the file|is empty; download it again)"):
        read_torch(path)


def test_damaged(tmp_path):
    """All is there, and its list of members is not what it was."""
    data = bytearray((DATA / "tensors.pth").read_bytes())
    place = data.rindex(b"PK\x01\x02")
    data[place : place + 4] = b"....".ljust(4)
    (tmp_path / "bad.pth").write_bytes(data)
    with pytest.raises(UserError, match=r"bad\.pth: damaged; get the file from its publisher again"):
        read_torch(tmp_path / "bad.pth")


def test_compressed(tmp_path):
    path = _rewrite(DATA / "nested.pth", tmp_path / "z.pth", lambda name, data: (data, zipfile.ZIP_DEFLATED))
    with pytest.raises(UserError, match="compressed"):
        read_torch(path)


def test_a_zip_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(UserError, match="not one that PyTorch wrote"):
        read_torch(tmp_path / "x.pth")


def test_a_damaged_list_of_tensors(tmp_path):
    """Whatever byte of the pickle is wrong, the answer is a UserError or tensors."""
    original = zipfile.ZipFile(DATA / "nested.pth").read("nested/data.pkl")
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        broken = bytearray(original)
        broken[rng.integers(2, len(broken))] = rng.integers(256)
        path = _rewrite(
            DATA / "nested.pth",
            tmp_path / "b.pth",
            lambda name, data, new=bytes(broken): (new if name.endswith("pkl") else data, zipfile.ZIP_STORED),
        )
        try:
            read_torch(path)
        except UserError:
            refused += 1
    assert refused > 100


def test_a_tensor_outside_its_storage(tmp_path):
    original = zipfile.ZipFile(DATA / "nested.pth").read("nested/data.pkl")
    shape = b"K\x04K\x06\x86"  # (4, 6)
    assert original.count(shape) == 1
    path = _rewrite(
        DATA / "nested.pth",
        tmp_path / "far.pth",
        lambda name, data: (data.replace(shape, b"K\x05K\x06\x86"), zipfile.ZIP_STORED),
    )
    with pytest.raises(UserError, match=r"a tensor of \[5, 6\] reaches outside its storage"):
        read_torch(path)


def test_missing():
    with pytest.raises(UserError, match=r"nowhere\.pth: no such file"):
        read_torch("nowhere.pth")


def test_written_without_pytorch(tmp_path):
    """What `write_torch` writes reads back; that PyTorch reads it was tried by hand, with
    `torch.load(path, weights_only=True)` of version 2.13."""
    values = {"a.weight": BASE.astype(ml_dtypes.bfloat16), "b": BASE[0], "scalar": np.array(3, np.int64)}
    shapes = {name: (value.dtype, value.shape) for name, value in values.items()}
    write_torch(tmp_path / "model.pth", shapes, iter(values.values()))
    tensors = read_torch(tmp_path / "model.pth")
    assert list(tensors) == list(values)
    for name, value in values.items():
        assert tensors[name].dtype == value.dtype
        np.testing.assert_array_equal(tensors[name], value)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_mapped_not_read(tmp_path):
    """A big file costs no memory of its own."""
    big = np.zeros(64 * 1024**2, np.uint8).view(np.float32)
    write_torch(tmp_path / "big.pth", {"a": (big.dtype, big.shape)}, iter([big]))
    program = (
        "import sys\n"
        "from talkverse_jax.weights.torch_reader import read_torch\n"
        "def anon(): return int(next(l for l in open('/proc/self/status') if 'RssAnon' in l).split()[1])\n"
        "before = anon(); total = read_torch(sys.argv[1])['a'].sum(); print(anon() - before)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "big.pth")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert int(done.stdout) < 8 * 1024  # kB
