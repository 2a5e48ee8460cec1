"""A module per subject; each public function returns one table of the page."""
