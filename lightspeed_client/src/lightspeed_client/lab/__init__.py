"""A whole world on loopback: game, players, impaired links, client and node, all measured."""
