from functools import lru_cache
from typing import Iterator

from fastapi import HTTPException
from sqlalchemy import create_engine
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session, declarative_base

from .settings import settings

Base = declarative_base()


@lru_cache
def engine() -> Engine:
    url = settings().database_url
    if url is None:
        raise HTTPException(503, "no database is configured")
    return create_engine(url.get_secret_value(), future=True, pool_pre_ping=True, connect_args={"connect_timeout": 5})


def session() -> Iterator[Session]:
    with Session(engine(), future=True) as s:
        yield s
