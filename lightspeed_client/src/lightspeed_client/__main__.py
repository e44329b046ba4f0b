"""`python -m lightspeed_client` is `lightspeed`."""

from .main import main

main()
