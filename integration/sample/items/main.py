from typing import List

from fastapi import Depends, FastAPI, HTTPException, Query, Response
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from . import __version__
from .auth import Caller, caller, writer
from .db import session
from .models import Item
from .schemas import ItemIn, ItemOut
from .settings import settings

app = FastAPI(title="items", version=__version__)


@app.get("/health")
def health():
    return {"status": "ok", "version": __version__}


@app.get("/ready")
def ready(db: Session = Depends(session)):
    try:
        db.execute(text("select 1"))
    except OperationalError:
        raise HTTPException(503, "the database does not answer")
    return {"status": "ready"}


@app.get("/me")
def me(who: Caller = Depends(caller)):
    return who


@app.get("/items", response_model=List[ItemOut])
def list_items(after: int = Query(0, ge=0), db: Session = Depends(session)):
    return db.scalars(select(Item).where(Item.id > after).order_by(Item.id).limit(settings().page_size)).all()


@app.get("/items/{item_id}", response_model=ItemOut)
def get_item(item_id: int, db: Session = Depends(session)):
    item = db.get(Item, item_id)
    if item is None:
        raise HTTPException(404, "no such item")
    return item


@app.post("/items", response_model=ItemOut, status_code=201)
def create_item(new: ItemIn, who: Caller = Depends(writer), db: Session = Depends(session)):
    item = Item(**new.dict(), owner=who.sub)
    db.add(item)
    try:
        db.commit()
    except IntegrityError:
        db.rollback()
        raise HTTPException(409, f"sku {new.sku} exists already")
    return item


@app.delete("/items/{item_id}", status_code=204, response_class=Response)
def delete_item(item_id: int, who: Caller = Depends(writer), db: Session = Depends(session)):
    item = db.get(Item, item_id)
    if item is None:
        raise HTTPException(404, "no such item")
    if item.owner != who.sub:
        raise HTTPException(403, "only its owner may delete an item")
    db.delete(item)
    db.commit()
