"""A small HTTP service that counts its visitors in Redis."""

import http.server
import os
import socket

import redis

counter = redis.Redis(os.environ["REDIS_HOST"])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        hits = counter.incr("hits")
        body = f"Hello from a pod, {hits} hits.\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("", 8080), Handler)
# The pod is ready when this app says so: sd_notify(3), as its image promises.
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
server.serve_forever()
