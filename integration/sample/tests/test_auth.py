import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec


def test_a_good_token_is_accepted(client, as_user):
    response = client.get("/me", headers=as_user(sub="grace"))
    assert response.status_code == 200
    assert response.json() == {"sub": "grace", "scope": "items:write"}


def test_no_token(client):
    response = client.get("/me")
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": time.time() - 3600},
        {"exp": None},
        {"iss": "https://elsewhere.example.com"},
        {"aud": "another-api"},
        {"aud": None},
        {"sub": None},
        {"key": ec.generate_private_key(ec.SECP256R1())},
        {"key": "a shared secret that is not ours", "algorithm": "HS256"},
    ],
    ids=["expired", "no expiry", "issuer", "audience", "no audience", "no subject", "foreign key", "algorithm"],
)
def test_a_bad_token_is_refused(client, as_user, changes):
    response = client.get("/me", headers=as_user(**changes))
    assert response.status_code == 401
    assert "invalid token" in response.json()["detail"]


def test_an_unsigned_token_is_refused(client):
    unsigned = jwt.encode({"sub": "mallory"}, None, algorithm="none")
    assert client.get("/me", headers={"Authorization": f"Bearer {unsigned}"}).status_code == 401
