"""The LightSpeed node: carries players' game packets to the game server and back."""

__version__ = "0.1.0"
