"""Starts the built wheel with uvicorn, as production would, and asks it for its health.

    python3 ci/smoke.py FOLDER      FOLDER: where the wheel was installed with pip --target
"""

import os
import socket
import subprocess
import sys
import time

import httpx
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

installed = os.path.abspath(sys.argv[1])
key = ec.generate_private_key(ec.SECP256R1())
public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
env = {
    "JWT_ISSUER": "https://login.example.com",
    "JWT_AUDIENCE": "items-api",
    **os.environ,
    "JWT_PUBLIC_KEY": public.decode(),
    "PYTHONPATH": installed,
}
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]

# From /, so that nothing of the checkout can be imported by accident.
server = subprocess.Popen([sys.executable, "-m", "uvicorn", "items.main:app", "--port", str(port)], env=env, cwd="/")
try:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=5) as client:
        deadline = time.monotonic() + 20
        while True:
            try:
                health = client.get("/health")
                break
            except httpx.TransportError:
                if server.poll() is not None:
                    sys.exit(f"uvicorn ended with {server.returncode}")
                if time.monotonic() > deadline:
                    sys.exit("uvicorn does not answer")
                time.sleep(0.05)
        print(health.status_code, health.text)
        assert health.status_code == 200 and health.json()["status"] == "ok"

        claims = {"iss": env["JWT_ISSUER"], "sub": "smoke", "exp": time.time() + 60}
        good = jwt.encode({**claims, "aud": env["JWT_AUDIENCE"]}, key, algorithm="ES256")
        bad = jwt.encode({**claims, "aud": "another-api"}, key, algorithm="ES256")
        assert client.get("/me", headers={"Authorization": f"Bearer {good}"}).json()["sub"] == "smoke"
        assert client.get("/me", headers={"Authorization": f"Bearer {bad}"}).status_code == 401
        assert client.get("/ready").status_code == 503 or "DATABASE_URL" in env
finally:
    server.terminate()
    server.wait(10)
print("smoke test passed: items", health.json()["version"], "from", installed)
