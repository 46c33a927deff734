//! Requests → answers.

use std::{
    env, fs,
    fs::File,
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use ebb_guest_http::{
    exchange::{self, PIECE_BYTES, Reader},
    target,
};
use serde_json::json;
use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{IncomingRequest, Method, ResponseOutparam},
};

use crate::{
    date,
    path::VolumePath,
    range::{self, Part},
    volume::{self, Draft, Metadata},
};

const PAGE: &str = include_str!("page.html");

/// What nobody in good faith announces is not reserved in advance.
const RESERVED_BYTES_MAX: u64 = 1 << 30;

struct Storage;

/// An answer that is not a success.
struct Refusal(u16, String);

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        let status = match error.kind() {
            ErrorKind::NotFound => 404,
            ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::DirectoryNotEmpty
            | ErrorKind::AlreadyExists => 409,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => 403,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => 507,
            _ => 500,
        };
        Self(status, error.to_string())
    }
}

/// A request's parts.
struct Asked {
    request: IncomingRequest,
    method: String,
    path: VolumePath,
    download: bool,
}

impl Guest for Storage {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let uri = request.path_with_query().unwrap_or_default();
        let (path, query) = target::split(&uri);
        let path = match VolumePath::parse(path) {
            Ok(path) => path,
            Err(bad) => return refuse(out, &Refusal(400, bad.0.to_owned())),
        };
        // Another site's page in this service's browser changes nothing here. Browsers alone say where a request
        // comes from.
        let reads = matches!(request.method(), Method::Get | Method::Head);
        if !reads && exchange::header(&request, "sec-fetch-site").is_some_and(|site| site == "cross-site") {
            return refuse(
                out,
                &Refusal(403, "another site's page may not change what is stored".to_owned()),
            );
        }
        let download = target::parameter(query, "download").is_some();
        let asked = Asked { method: exchange::method(&request), path, download, request };
        match asked.method.as_str() {
            "GET" | "HEAD" => get(&asked, out),
            "PUT" | "POST" => match put(&asked) {
                Ok((status, metadata)) => {
                    exchange::answer(out, status, "application/json", json!(metadata).to_string().as_bytes());
                }
                Err(refusal) => refuse(out, &refusal),
            },
            "DELETE" => match delete(&asked.path) {
                Ok(()) => exchange::respond(out, 204, &[]).finish(),
                Err(refusal) => refuse(out, &refusal),
            },
            _ => {
                let headers = [("allow", "GET, HEAD, PUT, POST, DELETE"), ("content-length", "0")];
                exchange::respond(out, 405, &headers).finish();
            }
        }
    }
}

fn refuse(out: ResponseOutparam, Refusal(status, message): &Refusal) {
    exchange::answer(out, *status, "application/json", json!({ "error": message }).to_string().as_bytes());
}

fn get(asked: &Asked, out: ResponseOutparam) {
    let is_browser =
        || exchange::header(&asked.request, "accept").is_some_and(|types| types.contains("text/html"));
    if asked.path.is_folder && !asked.download && is_browser() {
        return head_or_answer(asked, out, "text/html; charset=utf-8", PAGE.as_bytes());
    }
    let located = volume::locate(&asked.path);
    let metadata = match volume::metadata(&located, asked.path.name()) {
        Ok(metadata) => metadata,
        Err(error) => return refuse(out, &error.into()),
    };
    if asked.download {
        if metadata.is_folder {
            return refuse(out, &Refusal(409, "a folder cannot be downloaded".to_owned()));
        }
        return match volume::open(&located, asked.path.name()) {
            Ok((metadata, file)) => download(asked, out, &metadata, file),
            Err(error) => refuse(out, &error.into()),
        };
    }
    let mut described = json!(metadata);
    if metadata.is_folder {
        match volume::entries(&located) {
            Ok(entries) => described["entries"] = json!(entries),
            Err(error) => return refuse(out, &error.into()),
        }
    }
    head_or_answer(asked, out, "application/json", described.to_string().as_bytes());
}

fn head_or_answer(asked: &Asked, out: ResponseOutparam, content_type: &str, body: &[u8]) {
    if asked.method == "HEAD" {
        let length = body.len().to_string();
        let _ = exchange::respond(out, 200, &[("content-type", content_type), ("content-length", &length)]);
    } else {
        exchange::answer(out, 200, content_type, body);
    }
}

fn download(asked: &Asked, out: ResponseOutparam, metadata: &Metadata, mut file: File) {
    let header = |name| exchange::header(&asked.request, name);
    let tag = metadata.entity_tag();
    let modified = date::http(metadata.modified_seconds);
    if header("if-none-match").is_some_and(|tags| tags == "*" || tags.split(',').any(|one| one.trim() == tag))
    {
        return exchange::respond(out, 304, &[("etag", &tag)]).finish();
    }
    let is_current = header("if-range").is_none_or(|known| known == tag || known == modified);
    let wanted = header("range").filter(|_| is_current);
    let size = metadata.size;
    let (status, first, length) = match range::part(wanted.as_deref(), size) {
        Part::All => (200, 0, size),
        Part::Range(first, last) => (206, first, last - first + 1),
        Part::Unsatisfiable => {
            let headers = [("content-range", format!("bytes */{size}")), ("content-length", "0".to_owned())];
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            return exchange::respond(out, 416, &headers).finish();
        }
    };
    let length_text = length.to_string();
    let disposition = format!("attachment; filename*=UTF-8''{}", encoded(&metadata.name));
    let content_range = format!("bytes {first}-{}/{size}", (first + length).saturating_sub(1));
    let mut headers = vec![
        ("content-type", metadata.media_type),
        ("content-length", length_text.as_str()),
        ("content-disposition", disposition.as_str()),
        // Whatever a file claims to be, it is not run as a page of this host.
        ("x-content-type-options", "nosniff"),
        ("accept-ranges", "bytes"),
        ("last-modified", modified.as_str()),
        ("etag", tag.as_str()),
    ];
    if status == 206 {
        headers.push(("content-range", content_range.as_str()));
    }
    let mut writer = exchange::respond(out, status, &headers);
    if asked.method == "HEAD" || file.seek(SeekFrom::Start(first)).is_err() {
        return;
    }
    let mut rest = file.take(length);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match rest.read(&mut piece) {
            Ok(0) => return writer.finish(),
            Ok(count) if writer.write(&piece[..count]).is_ok() => {}
            // The response breaks off, and the client sees that it is not all.
            Ok(_) | Err(_) => return,
        }
    }
}

/// A file's name, so that it can stand in a header.
fn encoded(name: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(encode).collect()
}

fn put(asked: &Asked) -> Result<(u16, Metadata), Refusal> {
    let located = volume::locate(&asked.path);
    if asked.path.is_folder {
        if asked.method != "POST" || asked.path.names.is_empty() {
            return Err(Refusal(409, "a folder is there, or is made with POST".to_owned()));
        }
        let is_new = !located.exists();
        fs::create_dir_all(&located)?;
        let status = if is_new { 201 } else { 200 };
        return Ok((status, volume::metadata(&located, asked.path.name())?));
    }
    if located.is_dir() {
        return Err(Refusal(409, "a folder of that name is there".to_owned()));
    }
    let interrupted = |_| Refusal(400, "the body did not come to its end; nothing was stored".to_owned());
    let announced = exchange::content_length(&asked.request);
    let reader = Reader::new(&asked.request).map_err(interrupted)?;
    let is_new = if env::var("STREAM").is_ok_and(|value| value == "1") {
        stream(reader, &located)?
    } else {
        buffer(reader, &located, announced)?
    };
    Ok((if is_new { 201 } else { 200 }, volume::metadata(&located, asked.path.name())?))
}

/// Writes a body as it comes.
fn stream(mut reader: Reader, target: &Path) -> Result<bool, Refusal> {
    let mut draft = Draft::begin(target.to_owned())?;
    while let Some(piece) = next(&mut reader)? {
        draft.write(&piece)?;
    }
    Ok(draft.publish()?)
}

/// Reads a body as a whole, and then writes it: what makes an instance's memory swell.
fn buffer(mut reader: Reader, target: &Path, announced: Option<u64>) -> Result<bool, Refusal> {
    let reserved = announced.unwrap_or(0).min(RESERVED_BYTES_MAX);
    let mut content = Vec::new();
    // A body that does not fit is refused, not a reason to trap.
    let too_large = |_| Refusal(413, "the body does not fit into this instance's memory".to_owned());
    content.try_reserve_exact(usize::try_from(reserved).unwrap_or(usize::MAX)).map_err(too_large)?;
    while let Some(piece) = next(&mut reader)? {
        content.try_reserve(piece.len()).map_err(too_large)?;
        content.extend_from_slice(&piece);
    }
    let mut draft = Draft::begin(target.to_owned())?;
    for piece in content.chunks(PIECE_BYTES) {
        draft.write(piece)?;
    }
    Ok(draft.publish()?)
}

fn next(reader: &mut Reader) -> Result<Option<Vec<u8>>, Refusal> {
    reader
        .piece()
        .map_err(|_| Refusal(400, "the body did not come to its end; nothing was stored".to_owned()))
}

fn delete(path: &VolumePath) -> Result<(), Refusal> {
    if path.names.is_empty() {
        return Err(Refusal(409, "the Volume itself cannot be deleted".to_owned()));
    }
    let located = volume::locate(path);
    if fs::symlink_metadata(&located)?.is_dir() {
        volume::remove_abandoned(&located)?;
        if fs::read_dir(&located)?.next().is_some() {
            return Err(Refusal(409, "the folder is not empty".to_owned()));
        }
        fs::remove_dir(&located)?;
    } else {
        fs::remove_file(&located)?;
    }
    Ok(())
}

wasip2::http::proxy::export!(Storage);
