"""The studio: a local web page to complete and draw pictures with.

`server.py` answers the page's requests, behind the checks of `guard.py`. A request to draw becomes a checked `Order`
(`orders.py`), waits for its turn in a `Line` (`line.py`), and is drawn by a `StudioModel` (`models.py`) on the one
thread of a `Worker`. The files of the page are in `page/`.
"""
