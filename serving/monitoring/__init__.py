"""What the event log says about recommendation quality, computed beside the service.

Requests pay nothing for it: one process per site follows the log of all workers and exports its
figures to Prometheus (`python -m serving.monitoring`). It keeps no state: after a restart it reads
the window's log again and says the same.
"""
