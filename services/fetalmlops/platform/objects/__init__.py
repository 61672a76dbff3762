"""The object store: claim-checked objects in files or S3."""

from fetalmlops.platform.objects.faults import StoreFullError
from fetalmlops.platform.objects.opening import open_objects
from fetalmlops.platform.objects.store import ObjectStore, StoredObject

__all__ = ["ObjectStore", "StoreFullError", "StoredObject", "open_objects"]
