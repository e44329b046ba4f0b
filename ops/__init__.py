"""What runs, packages and describes LightSpeed from outside."""
