"""A wasi:http app in Python that keeps every body it is sent: its memory grows, its instance lives on."""

import json

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingBody,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

kept: list[bytes] = []
begun = 0


def read(request: IncomingRequest) -> bytes:
    """The request's body."""
    pieces = []
    body = request.consume()
    with body.stream() as stream:
        while True:
            try:
                pieces.append(stream.blocking_read(65536))
            except Err as end:
                if isinstance(end.value, StreamError_Closed):
                    break
                raise
    IncomingBody.finish(body)
    return b"".join(pieces)


class IncomingHandler(exports.IncomingHandler):
    """Answers with what it has seen so far."""

    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        global begun
        begun += 1
        kept.append(read(request))
        seen = {"language": "Python", "path": request.path_with_query(), "begun": begun}
        seen["kept_bytes"] = sum(map(len, kept))
        answer = json.dumps(seen).encode()
        response = OutgoingResponse(Fields.from_list([("content-type", b"application/json")]))
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            stream.blocking_write_and_flush(answer)
        OutgoingBody.finish(body, None)
