"""LitServe with bench/peer_model.py: python bench/peer_litserve.py PORT, in .venv/peers. MODEL_WORKERS is its own."""

import os
import sys
from typing import Annotated

import litserve
from fastapi import Depends, Request
from peer_model import make_model


async def raw(request: Request):
    return await request.body()


class Api(litserve.LitAPI):
    def setup(self, device):
        self.model = make_model()

    # Its own way to read a body is JSON; a picture in base64 would cost it about a millisecond more.
    def decode_request(self, request: Annotated[bytes, Depends(raw)]):
        return request

    def predict(self, body):
        return self.model.answer(body)

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    workers = int(os.environ.get("MODEL_WORKERS", "1"))
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=workers)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
