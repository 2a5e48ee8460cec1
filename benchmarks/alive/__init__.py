"""What a site gains that is alive between its runs."""
