"""One evaluation of a model beside its baselines and the champion, with intervals and slices."""
