"""Reference bundles, written and read."""

import numpy as np
import pytest

from talkverse_jax.weights.bundle import Bundle, write_bundle


def test_bundle_reads_back(tmp_path):
    path = tmp_path / "case.safetensors"
    path.write_bytes(b"an older one")
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    meta = {"family": "other", "component": "vae", "config": {"dim": 8}, "weights": {"ckpt_dir": "/somewhere"}}
    write_bundle(path, meta, {"inputs": {"video": values.T}, "taps": {"mean": values[0]}})
    bundle = Bundle(path)
    assert (bundle.meta, bundle.component, bundle.config) == (meta, "vae", {"dim": 8})
    assert bundle.family == "other"
    np.testing.assert_array_equal(bundle.group("inputs")["video"], values.T)
    np.testing.assert_array_equal(bundle.group("taps")["mean"], values[0])
    assert bundle.group("outputs") == {}


def test_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "case.safetensors"
    path.write_bytes(b"an older one")
    with pytest.raises(TypeError):
        write_bundle(path, {"config": object()}, {"inputs": {"x": np.zeros(3)}})
    assert path.read_bytes() == b"an older one"
    assert list(tmp_path.iterdir()) == [path]
