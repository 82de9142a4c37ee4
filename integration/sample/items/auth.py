"""Bearer tokens: signature, issuer, audience and expiry all have to be right."""

import jwt
from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from .settings import Settings, settings

bearer = HTTPBearer(auto_error=False)


class Caller(BaseModel):
    sub: str
    scope: str = ""

    def may(self, scope: str) -> bool:
        return scope in self.scope.split()


def caller(
    credentials: HTTPAuthorizationCredentials = Depends(bearer),
    config: Settings = Depends(settings),
) -> Caller:
    if credentials is None:
        raise HTTPException(401, "a bearer token is required", {"WWW-Authenticate": "Bearer"})
    try:
        claims = jwt.decode(
            credentials.credentials,
            config.jwt_public_key.get_secret_value(),
            algorithms=[config.jwt_algorithm],
            issuer=config.jwt_issuer,
            audience=config.jwt_audience,
            leeway=config.jwt_leeway_seconds,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
    except jwt.PyJWTError as e:
        raise HTTPException(401, f"invalid token: {e}", {"WWW-Authenticate": 'Bearer error="invalid_token"'})
    return Caller(**claims)


def writer(who: Caller = Depends(caller)) -> Caller:
    if not who.may("items:write"):
        raise HTTPException(403, "scope items:write is required")
    return who
