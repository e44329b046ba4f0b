"""The LightSpeed wire format, and the small trio runtime that node and client share."""

__version__ = "0.1.0"
