"""Settings come from the process environment, and from nowhere else."""

from functools import lru_cache
from typing import Optional

from pydantic import BaseSettings, SecretStr


class Settings(BaseSettings):
    # Without a database the service starts, answers /health, and says so on /ready.
    database_url: Optional[SecretStr] = None

    # The key that tokens are verified with: a PEM public key for ES256 and RS256, a shared secret for HS256.
    jwt_public_key: SecretStr
    jwt_algorithm: str = "ES256"
    jwt_issuer: str
    jwt_audience: str
    jwt_leeway_seconds: int = 5

    page_size: int = 50


@lru_cache
def settings() -> Settings:
    return Settings()
