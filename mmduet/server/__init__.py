"""The engine on the network: many live streams over WebSockets, and HTTP beside them."""
