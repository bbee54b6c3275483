"""Asks a server for statuses, twenty times a second, until its input ends; then writes what it found as JSON.

`python -m tests.serve.probe HOST:PORT`, a process of its own: its clients do not slow it down. In between it asks a
server that does nothing, to tell what the machine does, which others use too.
"""

import http.client
import json
import select
import subprocess
import sys
import time

_EVERY = 0.05  # seconds
_PATHS = ("/health", "/v1/videos?limit=20", "/ready", "/v1/videos?limit=1&order=asc")
_IDLE = """
import asyncio

async def answer(reader, writer):
    while await reader.readuntil(b"\\r\\n\\r\\n"):
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}")

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


def main() -> None:
    idle = subprocess.Popen([sys.executable, "-c", _IDLE], stdout=subprocess.PIPE, text=True)
    assert idle.stdout
    places = {"took": sys.argv[1], "idle": f"127.0.0.1:{int(idle.stdout.readline())}"}
    asked = {name: http.client.HTTPConnection(place, timeout=30) for name, place in places.items()}
    found: dict[str, list[float]] = {name: [] for name in places}
    while not select.select([sys.stdin], [], [], _EVERY)[0]:
        for name, connection in asked.items():
            begin = time.perf_counter()
            connection.request("GET", _PATHS[len(found[name]) % len(_PATHS)])
            answer = connection.getresponse()
            answer.read()
            found[name].append(time.perf_counter() - begin)
            assert answer.status == 200, answer.status
    idle.kill()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
