//! One exchange: the request's parts, its body piece by piece, the response.

use wasip2::{
    http::types::{
        ErrorCode, Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse,
        ResponseOutparam,
    },
    io::streams::{InputStream, OutputStream, StreamError},
};

/// Bytes that are read or written at once.
pub const PIECE_BYTES: usize = 64 * 1024;

/// The request's method, as text.
#[must_use]
pub fn method(request: &IncomingRequest) -> String {
    match request.method() {
        Method::Get => "GET".to_owned(),
        Method::Head => "HEAD".to_owned(),
        Method::Post => "POST".to_owned(),
        Method::Put => "PUT".to_owned(),
        Method::Delete => "DELETE".to_owned(),
        Method::Connect => "CONNECT".to_owned(),
        Method::Options => "OPTIONS".to_owned(),
        Method::Trace => "TRACE".to_owned(),
        Method::Patch => "PATCH".to_owned(),
        Method::Other(name) => name,
    }
}

/// The value of a header of the request, if it is text.
#[must_use]
pub fn header(request: &IncomingRequest, name: &str) -> Option<String> {
    let value = request.headers().get(name).into_iter().next()?;
    String::from_utf8(value).ok()
}

/// How long the request's body is, if the client said.
#[must_use]
pub fn content_length(request: &IncomingRequest) -> Option<u64> {
    header(request, "content-length")?.parse().ok()
}

/// The body did not come to its end: the client left, was too slow, or sent too much.
#[derive(Debug)]
pub struct Interrupted;

/// A request's body, read piece by piece.
pub struct Reader {
    // Dropped first: a body must outlive its stream.
    stream: InputStream,
    _body: IncomingBody,
}

impl Reader {
    /// The body of `request`.
    ///
    /// # Errors
    /// [`Interrupted`] when it was taken already.
    pub fn new(request: &IncomingRequest) -> Result<Self, Interrupted> {
        let body = request.consume().map_err(|()| Interrupted)?;
        let stream = body.stream().map_err(|()| Interrupted)?;
        Ok(Self { stream, _body: body })
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn piece(&mut self) -> Result<Option<Vec<u8>>, Interrupted> {
        match self.stream.blocking_read(PIECE_BYTES as u64) {
            Ok(piece) => Ok(Some(piece)),
            Err(StreamError::Closed) => Ok(None),
            Err(StreamError::LastOperationFailed(_)) => Err(Interrupted),
        }
    }
}

/// A response's body, written piece by piece. Dropped before [`Writer::finish`], the response breaks off.
pub struct Writer {
    stream: Option<OutputStream>,
    body: Option<OutgoingBody>,
}

/// The client has gone.
#[derive(Debug)]
pub struct Gone;

/// Begins a response. With a `content-length` among `headers`, exactly as much must be written.
///
/// # Panics
/// When a header is malformed, or `status` is no status.
#[must_use]
pub fn respond(out: ResponseOutparam, status: u16, headers: &[(&str, &str)]) -> Writer {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).expect("a response's headers are well-formed");
    }
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).expect("a response's status is between 100 and 599");
    let body = response.body().expect("a new response has a body");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("a new body has a stream");
    Writer { stream: Some(stream), body: Some(body) }
}

/// Answers with `body` and nothing more to come.
pub fn answer(out: ResponseOutparam, status: u16, content_type: &str, body: &[u8]) {
    let length = body.len().to_string();
    let headers = [("content-type", content_type), ("content-length", &length)];
    let mut writer = respond(out, status, &headers);
    // Whoever asked may have gone; there is nobody left to tell.
    if writer.write(body).is_ok() {
        writer.finish();
    }
}

impl Writer {
    /// Writes all of `bytes`, as fast as the client takes them.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        let stream = self.stream.as_ref().ok_or(Gone)?;
        while !bytes.is_empty() {
            let room = stream.check_write().map_err(|_| Gone)?;
            if room == 0 {
                stream.subscribe().block();
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(usize::try_from(room).unwrap_or(PIECE_BYTES)));
            stream.write(now).map_err(|_| Gone)?;
            bytes = later;
        }
        Ok(())
    }

    /// Waits until the host has what was written.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn flush(&mut self) -> Result<(), Gone> {
        self.stream.as_ref().ok_or(Gone)?.blocking_flush().map_err(|_| Gone)
    }

    /// Ends the body.
    pub fn finish(self) {
        // It fails if less was written than announced, and the client sees that.
        let _ = self.try_finish();
    }

    /// Ends the body.
    ///
    /// # Errors
    /// What the host says of a body that is not as long as announced.
    pub fn try_finish(mut self) -> Result<(), ErrorCode> {
        drop(self.stream.take());
        self.body.take().map_or(Ok(()), |body| OutgoingBody::finish(body, None))
    }
}
