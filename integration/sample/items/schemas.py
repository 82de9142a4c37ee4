from datetime import datetime
from decimal import Decimal

from pydantic import BaseModel, Field


class ItemIn(BaseModel):
    sku: str = Field(regex=r"^[A-Z0-9-]{3,64}$")
    name: str = Field(min_length=1, max_length=200)
    price: Decimal = Field(ge=0, max_digits=12, decimal_places=2)


class ItemOut(ItemIn):
    id: int
    owner: str
    created_at: datetime

    class Config:
        orm_mode = True
