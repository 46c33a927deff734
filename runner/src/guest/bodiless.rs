//! Responses whose `Content-Length` tells of a body that is not sent: those to HEAD, and 304 (RFC 9110, 8.6).
//!
//! `wasi:http` 0.2 holds a guest to its `Content-Length`, and a guest that writes less than that fails or crashes. Of
//! these responses none of it is due. In 0.3 the guest is told that something was missing, which costs it nothing.

use http::StatusCode;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi_http::{
    WasiHttpView as _,
    p2::{
        bindings::http::types::HostOutgoingResponse as _, body::HostOutgoingBody, types::HostOutgoingResponse,
    },
};

use super::GuestState;

/// The interface of [`wasmtime_wasi_http::p2`], under the name that its linker functions give it.
const TYPES: &str = "wasi:http/types@0.2.12";

/// Takes the place of `outgoing-response.body`, which must be in `linker` already.
///
/// # Errors
/// What Wasmtime says.
pub(crate) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(TYPES)?.func_wrap("[method]outgoing-response.body", body)?;
    linker.allow_shadowing(false);
    Ok(())
}

type Taken = Result<Resource<HostOutgoingBody>, ()>;

fn body(
    mut store: StoreContextMut<'_, GuestState>,
    (response,): (Resource<HostOutgoingResponse>,),
) -> wasmtime::Result<(Taken,)> {
    let of = |response: &Resource<HostOutgoingResponse>| Resource::new_borrow(response.rep());
    let is_head = store.data().answers_head;
    let mut view = store.data_mut().http();
    let head = view.table.get_mut(&response)?;
    if !is_head && head.status != StatusCode::NOT_MODIFIED {
        return Ok((view.body(response)?,));
    }
    // Without headers, no length is expected.
    let headers = std::mem::take(&mut head.headers);
    let taken = view.body(of(&response));
    view.table.get_mut(&response)?.headers = headers;
    Ok((taken?,))
}
