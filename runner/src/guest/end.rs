//! How a lifetime ended.

use wasmtime::{Store, WasmBacktrace, component::ResourceTableError};
use wasmtime_wasi::I32Exit;

use super::state::GuestState;

/// Frames of a trap's backtrace that are worth a log line.
const BACKTRACE_FRAMES_MAX: usize = 8;

/// How a lifetime ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Its program was done: exit code 0.
    Exit,
    /// It trapped, or left with another exit code.
    Crash(String),
    /// It was asked to stop.
    Stopped,
}

/// What is left of a lifetime. Dropping it gives its memory back to the host, which takes milliseconds
/// when there is much of it: not for a thread that others wait on.
pub(crate) struct Ended {
    /// How it ended.
    pub end: End,
    #[expect(dead_code, reason = "held for what dropping it does")]
    pub(super) store: Store<GuestState>,
}

pub(super) fn end_of(result: wasmtime::Result<()>) -> End {
    match result {
        Ok(()) => End::Exit,
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(0)) => End::Exit,
            Some(I32Exit(code)) => End::Crash(format!("exit code {code}")),
            None => End::Crash(trap(&error)),
        },
    }
}

/// In one line: what went wrong, and in which functions, innermost first.
pub(super) fn trap(error: &wasmtime::Error) -> String {
    if error.chain().any(|cause| matches!(cause.downcast_ref(), Some(ResourceTableError::Full))) {
        return "too many handles: it held as many files, sockets, bodies and header fields as max_handles allows; \
                does it close what it opens?"
            .to_owned();
    }
    let cause = error.root_cause();
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return format!("{error:#}") };
    let frames = backtrace.frames().iter().take(BACKTRACE_FRAMES_MAX).map(|frame| {
        frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), str::to_owned)
    });
    let frames: Vec<_> = frames.collect();
    if frames.is_empty() { format!("{cause}") } else { format!("{cause}, in {}", frames.join(" < ")) }
}
