"""The LightSpeed client: carries a game's UDP packets through a node."""

__version__ = "0.1.0"
