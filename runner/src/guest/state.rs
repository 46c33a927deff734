//! What a [`Store`](wasmtime::Store) holds: the guest's view of the host, and its limits.

use std::{fmt, sync::Arc};

use ebb_host::{growth::Route, limiter::Limiter};
use wasmtime::{StoreContextMut, component::GuestTaskId};
use wasmtime_wasi::{WasiCtxView, WasiView, p1::WasiP1Ctx};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::{handles::HandleCounter, outgoing::Outgoing};
use crate::{config::Destination, descriptors::HANDLES_PER_CONNECTION};

/// The longest header fields that a guest can make, in bytes of the runner's memory: four times what servers take.
const FIELDS_BYTES_MAX: usize = 32 * 1024;

/// A guest's view of the host, and its limits.
pub(crate) struct GuestState {
    pub(super) wasi: WasiP1Ctx,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    pub(super) limiter: Limiter,
    pub(super) handles: HandleCounter,
    /// The request that it works on is a HEAD. Only WASI 0.2 has one at a time.
    pub(super) answers_head: bool,
    /// Those that it works on at once, for the growth profile. Only WASI 0.3 has several.
    tasks: Vec<Task>,
    /// How many tasks there were.
    tasks_begun: u64,
}

/// A guest's work on a request. Wasmtime uses the name of one that is over again, while its response is still being sent.
#[derive(Clone, Copy, Debug)]
struct Task {
    id: GuestTaskId,
    number: u64,
    route: Option<Route>,
}

impl fmt::Debug for GuestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestState").field("limiter", &self.limiter).finish_non_exhaustive()
    }
}

impl GuestState {
    /// A view `wasi` with the limits `limiter` and `handles`, and HTTP requests to `outgoing`.
    pub(crate) fn new(
        mut wasi: WasiP1Ctx,
        limiter: Limiter,
        outgoing: Arc<[Destination]>,
        handles: u32,
    ) -> Self {
        wasi.ctx().table.set_max_capacity(handles as usize);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_BYTES_MAX);
        Self {
            wasi,
            http,
            outgoing: Outgoing::new(outgoing, handles / HANDLES_PER_CONNECTION),
            limiter,
            handles: HandleCounter::default(),
            answers_head: false,
            tasks: Vec::new(),
            tasks_begun: 0,
        }
    }

    /// The guest begins a task for a request of this route; its number, for [`GuestState::end_task`].
    pub(super) fn begin_task(&mut self, id: GuestTaskId, route: Option<Route>) -> u64 {
        self.tasks.retain(|task| task.id != id);
        self.tasks_begun += 1;
        self.tasks.push(Task { id, number: self.tasks_begun, route });
        self.tasks_begun
    }

    /// The task with this number is over.
    pub(super) fn end_task(&mut self, number: u64) {
        self.tasks.retain(|task| task.number != number);
    }

    /// The preview1 view, for a core module's linker.
    pub(crate) fn preview1(&mut self) -> &mut WasiP1Ctx {
        self.handles.count(self.wasi.ctx().table);
        &mut self.wasi
    }
}

/// Takes the stack of what has just grown, if it is to be told.
pub(super) fn take_stack(mut store: StoreContextMut<'_, GuestState>) {
    if store.data().limiter.waits_for_stack() && store.data().tasks_begun > 0 {
        // The host's call comes last: what the guest calls in other components belongs to the same request.
        let runs = store.async_call_stack().ok().and_then(Iterator::last);
        let GuestState { tasks, limiter, .. } = store.data_mut();
        limiter.serve(tasks.iter().find(|task| Some(task.id) == runs).and_then(|task| task.route));
    }
    Limiter::take_stack(store, |state| &mut state.limiter);
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.handles.count(self.wasi.ctx().table);
        self.wasi.ctx()
    }
}

impl WasiHttpView for GuestState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.handles.count(self.wasi.ctx().table);
        WasiHttpCtxView { hooks: &mut self.outgoing, table: self.wasi.ctx().table, ctx: &mut self.http }
    }
}
