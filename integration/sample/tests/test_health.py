from items import __version__


def test_health_needs_nothing(client):
    assert client.get("/health").json() == {"status": "ok", "version": __version__}


def test_ready_asks_the_database(client):
    assert client.get("/ready").json() == {"status": "ready"}
