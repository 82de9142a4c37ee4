from sqlalchemy import CheckConstraint, Column, DateTime, Integer, Numeric, String, func

from .db import Base


class Item(Base):
    __tablename__ = "items"
    __table_args__ = (CheckConstraint("price >= 0", name="price_not_negative"),)

    id = Column(Integer, primary_key=True)
    sku = Column(String(64), nullable=False, unique=True)
    name = Column(String(200), nullable=False)
    price = Column(Numeric(12, 2), nullable=False)
    owner = Column(String(200), nullable=False, index=True)
    created_at = Column(DateTime(timezone=True), nullable=False, server_default=func.now())
