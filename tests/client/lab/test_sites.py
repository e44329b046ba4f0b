from __future__ import annotations

import trio
from lightspeed_client.lab.home import NodeLimits
from lightspeed_client.lab.sites import open_site
from lightspeed_client.nodes import KnownNode


async def test_a_client_knows_a_sealed_site_by_its_invite_at_the_door() -> None:
    with trio.fail_after(30):
        async with open_site(NodeLimits(), "sealed") as site:
            assert site.control is not None
            known = site.for_client()
            assert isinstance(known, KnownNode)
            assert (known.host, known.port) == site.control.address
            assert known.token is not None
            ports = {site.data.address, site.control.address, site.node.data, site.node.control}
            assert len(ports) == 4


async def test_a_client_knows_an_open_site_by_an_address_at_the_door() -> None:
    with trio.fail_after(30):
        async with open_site(NodeLimits(), "open") as site:
            assert site.control is None
            assert site.for_client() == site.data.address != site.node.data
