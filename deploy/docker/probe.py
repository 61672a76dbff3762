#!/usr/bin/env -S python3 -I -S
"""Ask the process of this container how it fares: ``probe /healthz`` or ``probe /readyz``; the exit code says it."""

import http.client
import os
import sys

if __name__ == "__main__":
    port = int(os.environ["FETALMLOPS_HEALTH__PORT"])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=4)
    try:
        connection.request("GET", sys.argv[1])
        answer = connection.getresponse()
        sys.stdout.write(answer.read().decode())
    except OSError as error:
        sys.exit(f"Expected an answer on port {port}, got {type(error).__name__}")
    sys.exit(answer.status != http.client.OK)
