"""The feature store: what a user did, point in time for training and up to the moment for serving.

The only package that imports Feast. `publish` builds the offline tables and loads the online
store, `extract` reads training sequences as of a cutoff, `history` keeps what happened since.
"""
