"""The live page of a server: layout, browser client, sample clips and uploads."""
