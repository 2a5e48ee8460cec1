"""The one image that every component runs in; a commit's image holds the project at that commit."""

import os

IMAGE = os.environ.get("SASREC_IMAGE", "sasrec-pipeline:latest")
