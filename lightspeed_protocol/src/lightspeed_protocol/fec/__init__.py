"""Loss repair: redundancy beside the game's packets, never in front of them.

`header` is the 4-byte field behind the tunnel header of version 2, `xor` the scheme it carries;
`window` is what our own peers use inside the sealed header.
"""
