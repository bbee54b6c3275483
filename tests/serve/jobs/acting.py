"""Workers that only say that they make videos."""

import threading
import time

from talkverse_jax.serve.jobs.folders import VARIANTS


class Acting:
    """In seat of a worker's process: answers as a test wants, and counts what was asked."""

    def __init__(self):
        self.asked: list[tuple] = []  # jobs and clips
        self.rounds: list[list[str]] = []  # jobs that were asked for together
        self.started = 0
        self.answer = lambda message: None  # in seat of the usual one; "die" ends the worker
        self.held = threading.Event()
        self.held.set()

    def __call__(self, setup, hear, died):
        self.started += 1
        self._hear, self._died = hear, died
        self._stopped = set()
        threading.Thread(target=hear, args=({"say": "ready", "device": 0},)).start()
        return self

    pid = 0

    def send(self, message):
        if message["do"] == "stop":
            self._stopped.add(message["job"])
            self.held.set()
        else:
            requests = message["requests"]
            self.rounds.append([each["job"] for each in requests])
            self.asked += [(each["job"], each["clip"]) for each in requests]
            threading.Thread(target=self._serve, args=(requests, self.started)).start()

    def _serve(self, requests, life):
        for message in requests:
            self.held.wait()
            said = self.answer(message)
            if said == "die":
                self._died(-9)
            elif self.started == life:
                self._say(message, said)

    def _say(self, message, said):
        if message["job"] in self._stopped:
            said = {"say": "stopped"}
        usual = {"say": "clip", "clip": message["clip"], "frames": 25 * (message["clip"] or 0), "playable": 9}
        if message["clip"] is None:
            variants = {name: {"size": 1, "etag": "e", "modified": 0.0} for name in VARIANTS}
            usual = {"say": "finished", "timings": {}, "variants": variants, "notices": ["cut"], "bytes": 3}
        self._hear({**(said or usual), "job": message["job"], "request": message["request"]})

    def kill(self):
        pass


def until(condition, seconds=20):
    """Wait for something."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.02)


def kinds(jobs, job):
    """Of a job's kept events."""
    return [event.kind for event in jobs.events(job)]


def ended(jobs, *ids):
    """Whether these jobs have, as a condition."""
    return lambda: all(jobs.get("anna", job).ended for job in ids)
