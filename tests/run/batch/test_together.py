"""A worker of two processes, whose pipelines draw: each does what process 0 does, in its order."""

import json
import os

import pytest

from tests.processes import free_address, run_together
from tests.run.batch.drawn import DrawnPipeline, Said, make
from tests.run.batch.test_disturbed import good_items, videos

PROGRAM = """
import json, sys
from talkverse_jax.core.errors import UserError
from talkverse_jax.run.batch.together import run_together
from talkverse_jax.sharding.distributed import session
from tests.run.batch.drawn import DrawnPipeline, Said, make

path, folder, address, number = sys.argv[1:]
done = []

class Noting(DrawnPipeline):
    def encode(self, job, events, inputs=None):
        done.append(["encode", job.output])
        if job.settings.prompt == "Refused.":
            raise UserError("is refused")
        return super().encode(job, events, inputs)

    def start(self, encoded, events):
        done.append(["start", encoded.job.output])
        return super().start(encoded, events)

    def advance(self, states, events):
        for place, clip, state in super().advance(states, events):
            done.append(["clip", state.encoded.job.output, state.clip])
            yield place, clip, state

said = Said()
with session(address, 2, int(number)):
    failed = make(Noting(pack=2), path, folder, said, run=run_together)
print(json.dumps([failed, done, said.lines]))
"""


@pytest.mark.slow
def test_two_processes_are_one_worker(tmp_path):
    items = good_items(tmp_path)[:5]
    items.insert(2, items[0] | {"id": "missing", "image": "nobody.png"})
    items.insert(3, items[0] | {"id": "refused", "prompt": "Refused."})
    path, out, calm = tmp_path / "list.json", tmp_path / "out", tmp_path / "calm"
    path.write_text(json.dumps(items))
    address = free_address()
    first, second = run_together(PROGRAM, *((path, out, address, n) for n in range(2)), within=300)
    (failed, led, said), (none, followed, silence) = map(json.loads, (first.splitlines()[-1], second.splitlines()[-1]))
    assert (failed, none, silence) == (2, 0, [])
    assert led == followed and len(led) == 6 + 5 + sum((1, 2, 3, 1, 2))
    assert any("refused: is refused" in line for line in said)
    path.write_text(json.dumps([item for item in items if item["id"].startswith("good")]))
    assert make(DrawnPipeline(pack=2), str(path), str(calm), Said()) == 0
    assert videos(out) == videos(calm) and len(videos(out)) == 5
    names = [f"good-{n}.{kind}" for n in range(5) for kind in ("mp4", "json")]
    assert sorted(os.listdir(out)) == sorted([*names, "results.jsonl"])
