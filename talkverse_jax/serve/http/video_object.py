"""A job as the client sees it."""

from typing import Any

from talkverse_jax.pipeline import registry
from talkverse_jax.serve.http.fields import FPS
from talkverse_jax.serve.jobs.job import Progress, Record


def video_object(record: Record, progress: Progress | None) -> dict[str, Any]:
    """The video object.

    Args:
      progress: how far the job is; None of one that is gone meanwhile.
    """
    job, running = record.submission, record.status == "in_progress"
    now = progress or Progress(record.id, record.status, progress=100 * record.clips_done // job.clips)
    failure = record.failure
    error = None if failure is None else {"code": failure.code, "message": failure.message, "param": failure.param}
    steps = registry.settings_of(job.family).REQUEST.option("num_inference_steps")
    percent = 100 if record.status == "completed" else min(99, now.progress)
    return {
        "id": record.id,
        "object": "video",
        "created_at": int(record.created_at),
        "completed_at": _whole(record.completed_at),
        "expires_at": _whole(record.expires_at),
        "status": record.status,
        "progress": percent,
        "model": job.model,
        "prompt": job.prompt,
        "seconds": plain_seconds(job.num_frames / FPS),
        "size": job.size,
        "error": error,
        "remixed_from_video_id": None,
        "seed": job.settings["base_seed"],
        "fps": FPS,
        "num_frames": job.num_frames,
        "clips": job.clips,
        "clips_done": record.clips_done,
        "ready_seconds": round(record.frames_done / FPS, 2),
        "queue_position": now.queue_position if record.status == "queued" else None,
        "phase": now.phase if running else None,
        "clip": now.clip if running else None,
        "step": now.step,
        "steps": now.steps or job.settings.get(steps, 0),
        "eta_seconds": None if record.ended else now.eta,
        "started_at": _whole(record.started_at),
        "attempt": record.attempt,
        "original_prompt": job.original_prompt,
        "notices": list(record.notices),
        "settings": dict(job.settings),
        "inputs": dict(job.inputs),
        "timings": dict(record.timings) if record.timings else None,
    }


def progress_event(progress: Progress) -> dict[str, Any]:
    """The data of a `progress` event."""
    return {
        "id": progress.id,
        "status": progress.status,
        "phase": progress.phase,
        "queue_position": progress.queue_position,
        "clip": progress.clip,
        "clips": progress.clips,
        "step": progress.step,
        "steps": progress.steps,
        "fraction": progress.fraction,
        "progress": progress.progress,
        "eta_seconds": progress.eta,
    }


def poll_after(record: Record, progress: Progress | None) -> str:
    """Milliseconds after which it is worth to ask again."""
    eta = progress.eta if progress else None
    if eta is None:
        waiting = progress.queue_position if progress else None
        return str(min(10_000, 1_000 * (waiting or 1)))
    return str(min(10_000, max(500, eta * 100)))


def plain_seconds(seconds: float) -> str:
    """With at most two decimals, and no zeros at the end."""
    return f"{seconds:.2f}".rstrip("0").rstrip(".")


def _whole(time: float | None) -> int | None:
    return None if time is None else int(time)
