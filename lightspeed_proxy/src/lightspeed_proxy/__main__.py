"""`python -m lightspeed_proxy` is the command `lightspeed-proxy`."""

from .main import main

main()
