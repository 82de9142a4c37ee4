"""Tests run against the PostgreSQL of DATABASE_URL. Each sees an empty database of its own: whatever it commits is
undone by the transaction around it."""

import os
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi.testclient import TestClient
from sqlalchemy import event
from sqlalchemy.orm import Session

# Tokens are signed by a key that lives as long as this run; the service gets its public half as in production.
KEY = ec.generate_private_key(ec.SECP256R1())
os.environ["JWT_PUBLIC_KEY"] = (
    KEY.public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)
os.environ.setdefault("JWT_ISSUER", "https://login.example.com")
os.environ.setdefault("JWT_AUDIENCE", "items-api")
if not os.environ.get("DATABASE_URL"):
    pytest.exit("DATABASE_URL is not set: these tests need a real PostgreSQL", returncode=4)

from items import db  # noqa: E402
from items.main import app  # noqa: E402
from items.models import Base  # noqa: E402


@pytest.fixture(scope="session")
def schema():
    Base.metadata.create_all(db.engine())
    yield
    Base.metadata.drop_all(db.engine())


@pytest.fixture
def session(schema):
    with db.engine().connect() as connection:
        outer = connection.begin()
        savepoint = connection.begin_nested()
        session = Session(connection, future=True)

        # A commit or rollback of the service ends a savepoint only; the next statement needs a new one.
        @event.listens_for(session, "after_transaction_end")
        def reopen(session, transaction):
            nonlocal savepoint
            if not savepoint.is_active:
                savepoint = connection.begin_nested()

        yield session
        session.close()
        outer.rollback()


@pytest.fixture
def client(session):
    app.dependency_overrides[db.session] = lambda: session
    with TestClient(app) as client:
        yield client
    app.dependency_overrides.clear()


@pytest.fixture
def token():
    """Makes tokens; whatever is passed replaces a claim, and None removes it."""

    def make(key=KEY, algorithm="ES256", **changes):
        claims = {
            "iss": os.environ["JWT_ISSUER"],
            "aud": os.environ["JWT_AUDIENCE"],
            "sub": "ada",
            "scope": "items:write",
            "exp": time.time() + 60,
            **changes,
        }
        return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm=algorithm)

    return make


@pytest.fixture
def as_user(token):
    return lambda **changes: {"Authorization": f"Bearer {token(**changes)}"}
