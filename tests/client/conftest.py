import pytest

from talkverse_jax.client import Client
from tests.client.scripted import Scripted, scripted


@pytest.fixture
def server(monkeypatch):
    """A server that says what a test wrote down. The client's waits are hundredths of seconds."""
    from talkverse_jax.client import client, connection, events

    monkeypatch.delenv("TALKVERSE_API_KEY", raising=False)
    monkeypatch.setattr(connection, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(events, "_PAUSE", 0.01)
    monkeypatch.setattr(client, "_ASKED", 0.01)
    with scripted() as made:
        yield made


@pytest.fixture
def client(server: Scripted):
    with Client(server.address, timeout=10) as made:
        yield made
