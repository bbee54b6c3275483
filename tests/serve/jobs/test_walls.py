"""The walls within which a job's files are read when it is made."""

from talkverse_jax.pipeline.machine import Machine
from talkverse_jax.serve.jobs.walls import machine_walls, within
from talkverse_jax.serve.options import ServeOptions


def test_a_job_is_made_within_the_walls_of_its_admission():
    admitted = machine_walls(ServeOptions(max_sound_seconds=7.5, max_image_pixels=5000))
    found = within(Machine(dtype="float32", max_seconds=3), {"sample_steps": 4, **admitted}).walls
    assert (found.max_seconds, found.max_pixels) == (8, 5000)
    assert found.kinds == Machine(file_kinds="web").walls.kinds


def test_a_job_of_an_older_server_has_the_machine_s():
    machine = Machine(max_seconds=3)
    assert within(machine, {"sample_steps": 4}) == machine
