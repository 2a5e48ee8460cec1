"""docs/results.md, its plots and the figures in other documents, from benchmarks/results/*.json.

`python -m benchmarks.results_page` writes them; a test compares them with the files. A new result
gets a table by one function in `subjects/` that returns a `Subject`, listed in `page.SUBJECTS`.
"""
