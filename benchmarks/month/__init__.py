"""A month of a shop: visits by day, runs by night, and planned misfortunes; what held."""
