//! Guests small enough to be read beside the test that uses them.

pub(crate) use crate::component::component;

/// A preview1 core module: `body` runs in `_start`; `$sleep` takes milliseconds.
pub(crate) fn core(memory: &str, body: &str) -> String {
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "poll_oneoff"
            (func $poll (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
          {memory}
          (func $sleep (param $ms i64)
            ;; One subscription at 0: a relative timeout on the monotonic clock. Events go to 64.
            (i64.store (i32.const 0) (i64.const 0))
            (i32.store8 (i32.const 8) (i32.const 0))
            (i32.store (i32.const 16) (i32.const 1))
            (i64.store (i32.const 24) (i64.mul (local.get $ms) (i64.const 1000000)))
            (i64.store (i32.const 32) (i64.const 0))
            (i32.store16 (i32.const 40) (i32.const 0))
            (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 96))))
          (func $sleep_for_ever (loop $again (call $sleep (i64.const 3600000)) (br $again)))
          (func (export "_start") {body}))"#
    )
}

const ONE_PAGE: &str = r#"(memory (export "memory") 1)"#;

/// Holds one page and sleeps.
pub(crate) fn sleeper() -> String {
    core(ONE_PAGE, "(call $sleep_for_ever)")
}

/// As [`sleeper`], and another binary.
pub(crate) fn other_sleeper() -> String {
    core(ONE_PAGE, "(nop) (call $sleep_for_ever)")
}

/// Grows by `pages` at once, then sleeps.
pub(crate) fn holder(pages: u32) -> String {
    core(ONE_PAGE, &format!("(drop (memory.grow (i32.const {pages}))) (call $sleep_for_ever)"))
}

/// Grows by a page every 5 ms, `pages` times, then sleeps.
pub(crate) fn grower(pages: u32) -> String {
    core(
        ONE_PAGE,
        &format!(
            "(local $left i32) (local.set $left (i32.const {pages}))
             (loop $next
               (drop (memory.grow (i32.const 1)))
               (call $sleep (i64.const 5))
               (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
             (call $sleep_for_ever)"
        ),
    )
}

/// Never rests.
pub(crate) fn spinner() -> String {
    core(ONE_PAGE, "(loop $again (br $again))")
}

/// Never rests, and that before its program begins.
pub(crate) fn start_spinner() -> String {
    format!(
        r#"(module {ONE_PAGE} (func $spin (loop $again (br $again))) (start $spin) (func (export "_start")))"#
    )
}

/// Its `start` section lasts until there is a file `start` in its first folder; then it runs until there is
/// a file `end`, and traps.
pub(crate) fn gated() -> String {
    core(
        r#"(import "wasi_snapshot_preview1" "path_filestat_get"
             (func $filestat (param i32 i32 i32 i32 i32) (result i32)))
           (memory (export "memory") 1) (data (i32.const 200) "startend")
           (func $wait (param $name i32) (param $length i32)
             ;; Folder 3, no flags; what is known about the file goes to 256.
             (loop $again
               (call $sleep (i64.const 1))
               (br_if $again (call $filestat (i32.const 3) (i32.const 0)
                 (local.get $name) (local.get $length) (i32.const 256)))))
           (func $gate (call $wait (i32.const 200) (i32.const 5)))
           (start $gate)"#,
        "(call $wait (i32.const 205) (i32.const 3)) (unreachable)",
    )
}

/// Asks for a page more for as long as it gets one, then sleeps.
pub(crate) fn greedy() -> String {
    core(
        ONE_PAGE,
        "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
         (call $sleep_for_ever)",
    )
}

/// Wants a thousand pages to begin with.
pub(crate) fn start_greedy() -> String {
    core(r#"(memory (export "memory") 1000)"#, "(call $sleep_for_ever)")
}

/// Traps at once.
pub(crate) fn trap() -> String {
    core(ONE_PAGE, "(unreachable)")
}

/// Leaves at once with `code`.
pub(crate) fn exit(code: u32) -> String {
    core(ONE_PAGE, &format!("(call $exit (i32.const {code}))"))
}

/// Prints `text` to standard output for ever, without a line break.
pub(crate) fn chatterbox(text: &str) -> String {
    let length = text.len();
    core(
        &format!("{ONE_PAGE} (data (i32.const 200) {text:?})"),
        &format!(
            "(i32.store (i32.const 128) (i32.const 200)) (i32.store (i32.const 132) (i32.const {length}))
             (loop $again
               (drop (call $write (i32.const 1) (i32.const 128) (i32.const 1) (i32.const 136)))
               (br $again))"
        ),
    )
}
