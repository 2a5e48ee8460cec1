"""Dashboards from one typed description: `python -m deploy.dashboards` writes all files."""
