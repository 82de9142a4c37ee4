"""A small service that keeps items in PostgreSQL."""

__version__ = "1.2.0"
