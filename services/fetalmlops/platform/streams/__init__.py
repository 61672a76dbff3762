"""The one way to process a topic.

`process` shares a topic among workers and brings every event to a verdict; `follow` lets every copy hold the state that a
topic describes.
"""

from fetalmlops.platform.streams.follow import follow
from fetalmlops.platform.streams.process import process
from fetalmlops.platform.streams.stage import Delivery, Emission, Outcome, Record, Stage

__all__ = ["Delivery", "Emission", "Outcome", "Record", "Stage", "follow", "process"]
