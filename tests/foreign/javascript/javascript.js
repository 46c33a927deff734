// A wasi:http app in JavaScript that exports `incomingHandler`: its instance lives on.
import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from "wasi:http/types@0.2.10";

let begun = 0;

export const incomingHandler = {
  handle(request, responseOut) {
    begun += 1;
    const answer = JSON.stringify({ language: "JavaScript", path: request.pathWithQuery(), begun });
    const response = new OutgoingResponse(new Fields());
    const body = response.body();
    ResponseOutparam.set(responseOut, { tag: "ok", val: response });
    const stream = body.write();
    stream.blockingWriteAndFlush(new TextEncoder().encode(answer));
    stream[Symbol.dispose]();
    OutgoingBody.finish(body, undefined);
  },
};
