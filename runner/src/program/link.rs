//! What each kind of module is offered: whether a binary fits, before it is compiled, and linked to it afterwards.

use std::{num::NonZeroU32, sync::Arc};

use ebb_service::quote;
use wasmtime::{
    Engine, Linker, Module, Store,
    component::{self, Component},
};
use wasmtime_wasi::{WasiCtx, p1, p2, p2::bindings::CommandPre, p3};
use wasmtime_wasi_http::{handler::ProxyPre, p2::bindings::ProxyPre as ProxyPre02, p3::bindings::ServicePre};

use super::{
    binary::Binary,
    error::{NAMES_MAX, ProgramErrorCause, Unfit, listed},
    world::{Export, Import, World},
};
use crate::{
    exchange::service::Service,
    guest::{GuestState, Linked, bodiless},
    kind::Kind,
};

/// How exports that can be run begin.
const RUN_02: &str = "wasi:cli/run@0.2.";
const HANDLER_02: &str = "wasi:http/incoming-handler@0.2.";
const HANDLER_03: &str = "wasi:http/handler@0.3.";

/// A name that a file gives.
fn quoted(name: &str) -> String {
    const CHARS_MAX: usize = 100;
    format!("`{}`", quote::clipped_to(CHARS_MAX, name))
}

/// Judges imports and exports of `binary`, all of them, by an `engine` of its own. A binary that cannot be read fits:
/// compiling it will tell what is wrong.
///
/// # Errors
/// What is missing.
pub(super) fn judge(engine: &Engine, kind: &Kind, binary: &Binary) -> Result<(), ProgramErrorCause> {
    let Ok(world) = World::read(&binary.bytes) else { return Ok(()) };
    let missing = match kind {
        // All that can be said of one is that it is none.
        Kind::Http(_) if !binary.is_component() => Vec::new(),
        Kind::Http(_) => missing(http_linker(engine)?, engine, &world, binary),
        Kind::Command if binary.is_component() => missing(command_linker(engine)?, engine, &world, binary),
        Kind::Command => missing_of_core(engine, &world).map_err(link_error(kind.name()))?,
    };
    let entry = missing_entry(kind, binary, &world.exports);
    if entry.is_none() && missing.is_empty() {
        return Ok(());
    }
    let offered = offered(kind, binary);
    Err(ProgramErrorCause::Unfit(Box::new(Unfit { kind: kind.name(), entry, missing, offered })))
}

fn offered(kind: &Kind, binary: &Binary) -> &'static str {
    match kind {
        Kind::Http(_) => "wasi:cli/imports and wasi:http/imports, 0.2 and 0.3",
        Kind::Command if binary.is_component() => "wasi:cli/imports@0.2",
        Kind::Command => "wasi_snapshot_preview1",
    }
}

fn missing_entry(kind: &Kind, binary: &Binary, exports: &[Export<'_>]) -> Option<(&'static str, String)> {
    let has = |prefix| exports.iter().any(|export| export.name.starts_with(prefix));
    let (found, expected) = match kind {
        Kind::Command if binary.is_component() => {
            (has(RUN_02), "a component that exports `wasi:cli/run@0.2`")
        }
        Kind::Command => (
            exports.iter().any(|export| export.name == "_start" && export.is_entry_point),
            "a core module with a function `_start` without parameters and results",
        ),
        Kind::Http(_) => (
            binary.is_component() && (has(HANDLER_02) || has(HANDLER_03)),
            "a component that exports `wasi:http/incoming-handler@0.2` or `wasi:http/handler@0.3`",
        ),
    };
    let exported = || match kind {
        Kind::Http(_) if !binary.is_component() => {
            "is a core module: make it a component, by `wasm-tools component new` for example".to_owned()
        }
        _ if exports.is_empty() => "exports nothing".to_owned(),
        _ => format!("exports {}", listed(exports.iter().map(|export| quoted(export.name)))),
    };
    (!found).then(|| (expected, exported()))
}

fn missing_of_core(engine: &Engine, world: &World<'_>) -> wasmtime::Result<Vec<String>> {
    let mut linker = Linker::new(engine);
    p1::add_to_linker_async(&mut linker, |wasi| wasi)?;
    let mut store = Store::new(engine, WasiCtx::builder().build_p1());
    let mut is_offered = |module, name| linker.get(&mut store, module, name).is_ok();
    let missing = world.core_imports.iter().filter(|(module, name)| !is_offered(module, name));
    Ok(missing.map(|(module, name)| format!("{} {}", quoted(module), quoted(name))).collect())
}

/// Packages of which some interfaces are offered.
const PACKAGES: [&str; 7] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

/// Links the component as far as each import: Wasmtime names only the first that is missing.
///
/// Of an interface that is offered and does not fit, a part of another version say, others may depend. So that one is the
/// last that is named.
fn missing(
    mut linker: component::Linker<GuestState>,
    engine: &Engine,
    world: &World<'_>,
    binary: &Binary,
) -> Vec<String> {
    let mut missing = Vec::new();
    // No more are looked for than one that is not named.
    while missing.len() <= NAMES_MAX {
        let misfit = |import: &Import<'_>| {
            // What does not compile is left to compiling the whole.
            let component = Component::from_binary(engine, &import.prefix_component(&binary.bytes)).ok()?;
            Some((linker.instantiate_pre(&component).err()?, component))
        };
        let Some((import, error, component)) = first_misfit(&world.imports, misfit) else { break };
        missing.push(format!("{} ({})", quoted(import.name), error.root_cause()));
        let may_be_offered = PACKAGES.iter().any(|package| import.name.starts_with(package));
        let stands_in = !may_be_offered && linker.define_unknown_imports_as_traps(&component).is_ok();
        if !stands_in || linker.instantiate_pre(&component).is_err() {
            break;
        }
    }
    missing
}

/// The first import as far as which the component does not link, found by halving: it does not link further either.
fn first_misfit<'a, 'b>(
    imports: &'a [Import<'b>],
    misfit: impl Fn(&Import<'b>) -> Option<(wasmtime::Error, Component)>,
) -> Option<(&'a Import<'b>, wasmtime::Error, Component)> {
    let mut found = misfit(imports.last()?)?;
    let (mut low, mut high) = (0, imports.len() - 1);
    while low < high {
        let middle = usize::midpoint(low, high);
        match misfit(&imports[middle]) {
            Some(earlier) => (found, high) = (earlier, middle),
            None => low = middle + 1,
        }
    }
    Some((&imports[high], found.0, found.1))
}

fn link_error(kind: &'static str) -> impl Fn(wasmtime::Error) -> ProgramErrorCause {
    move |source| ProgramErrorCause::Link { kind, source }
}

fn command_linker(engine: &Engine) -> Result<component::Linker<GuestState>, ProgramErrorCause> {
    let mut linker = component::Linker::new(engine);
    p2::add_to_linker_async(&mut linker).map_err(link_error("command"))?;
    Ok(linker)
}

fn http_linker(engine: &Engine) -> Result<component::Linker<GuestState>, ProgramErrorCause> {
    let mut linker = component::Linker::new(engine);
    let linked = p2::add_to_linker_async(&mut linker)
        .and_then(|()| wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker))
        .and_then(|()| bodiless::add_to_linker(&mut linker))
        .and_then(|()| p3::add_to_linker(&mut linker))
        .and_then(|()| wasmtime_wasi_http::p3::add_to_linker(&mut linker));
    linked.map_err(link_error("http"))?;
    Ok(linker)
}

/// Compiles and links what was judged fit.
///
/// # Errors
/// What Wasmtime says, and a `concurrency` that the component cannot have.
pub(super) fn linked(
    engine: &Engine,
    kind: &Kind,
    binary: &Binary,
    concurrency: Option<NonZeroU32>,
) -> Result<Linked, ProgramErrorCause> {
    if !binary.is_component() {
        return link_core(engine, &binary.bytes);
    }
    let component = Component::from_binary(engine, &binary.bytes).map_err(ProgramErrorCause::Compile)?;
    match kind {
        Kind::Command => {
            let pre = command_linker(engine)?.instantiate_pre(&component).and_then(CommandPre::new);
            pre.map(Linked::Component).map_err(link_error(kind.name()))
        }
        Kind::Http(service) => link_http(engine, &component, Arc::clone(service), concurrency),
    }
}

fn link_core(engine: &Engine, bytes: &[u8]) -> Result<Linked, ProgramErrorCause> {
    let module = Module::from_binary(engine, bytes).map_err(ProgramErrorCause::Compile)?;
    let mut linker = Linker::new(engine);
    p1::add_to_linker_async(&mut linker, GuestState::preview1).map_err(link_error("command"))?;
    linker.instantiate_pre(&module).map(Linked::Core).map_err(link_error("command"))
}

/// Requests that an instance of a WASI 0.3 component works on at once, unless configured.
const CONCURRENCY_03: NonZeroU32 = NonZeroU32::MIN.saturating_add(15);

fn link_http(
    engine: &Engine,
    component: &Component,
    service: Arc<Service>,
    concurrency: Option<NonZeroU32>,
) -> Result<Linked, ProgramErrorCause> {
    let pre = http_linker(engine)?.instantiate_pre(component).map_err(link_error("http"))?;
    if component.component_type().exports(engine).any(|(name, _)| name.starts_with(HANDLER_03)) {
        let pre = ServicePre::new(pre).map_err(link_error("http"))?;
        let concurrency = concurrency.unwrap_or(CONCURRENCY_03);
        return Ok(Linked::Http { pre: ProxyPre::P3(pre), concurrency, service });
    }
    if let Some(several) = concurrency.filter(|count| count.get() > 1) {
        return Err(ProgramErrorCause::Concurrency(several));
    }
    let pre = ProxyPre02::new(pre).map_err(link_error("http"))?;
    Ok(Linked::Http { pre: ProxyPre::P2(pre), concurrency: NonZeroU32::MIN, service })
}
