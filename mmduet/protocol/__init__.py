"""The wire: what clients and servers say to each other, as values; no sockets, no clock, no torch."""
