"""Two processes write a checkpoint: each sums its own files, and what one finds damaged stops both."""

import pytest

from tests.processes import free_address, run_together

_PROGRAM = """
    import sys
    from pathlib import Path
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec
    from talkverse_jax.core import checksums
    from talkverse_jax.core.errors import UserError
    from talkverse_jax.sharding import distributed
    from talkverse_jax.training.checkpoint import Checkpoints
    from tests.training.test_checkpoint import RUN, abstract, record, state

    address, number, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    with distributed.session(address, 2, number):
        mesh, summed, crc32 = Mesh(np.array(jax.devices()), ("x",)), [], checksums.crc32
        place = lambda leaf: NamedSharding(mesh, PartitionSpec("x") if leaf.ndim == 2 else PartitionSpec())
        part = lambda leaf: lambda index: np.asarray(leaf)[index]
        spread = lambda leaf: jax.make_array_from_callback(leaf.shape, place(leaf), part(leaf))
        values = jax.tree.map(spread, state(1, 64))

        def note(path):
            summed.append(path)
            return crc32(path)

        checksums.crc32 = note
        checkpoints = Checkpoints(folder)
        checkpoints.save(values, record(1))
        checkpoints.wait()
        own = lambda: {part for path in summed for part in path.parts if part.startswith("ocdbt.process")}
        assert own() == {f"ocdbt.process_{number}"}, summed
        summed.clear()
        assert checkpoints.latest(abstract(values), RUN) is not None
        assert own() == {f"ocdbt.process_{number}"}, summed
        distributed.barrier("flip")
        if number == 0:
            files = filter(Path.is_file, (folder / "1" / "state" / "ocdbt.process_1").rglob("*"))
            largest = max(files, key=lambda path: path.stat().st_size)
            content = bytearray(largest.read_bytes())
            content[100] ^= 1
            largest.write_bytes(content)
        distributed.barrier("flipped")
        try:
            checkpoints.latest(abstract(values), RUN)
        except UserError as error:
            print(error)
        checkpoints.close()
"""


@pytest.mark.slow
def test_each_process_sums_what_it_wrote_and_both_are_told_of_damage(tmp_path):
    address = free_address()
    told = run_together(_PROGRAM, (address, 0, tmp_path), (address, 1, tmp_path), within=120)
    assert all("every checkpoint is damaged" in text for text in told)
    assert (tmp_path / "damaged-1").is_dir()
