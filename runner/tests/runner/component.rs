//! A guest for tests of the runner as a whole and of programs alone.

/// A `wasi:cli` component whose two core instances each have a memory; `body` runs in the first one.
pub(crate) fn component(body: &str) -> String {
    format!(
        r#"(component
          (core module $module
            (memory (export "memory") 1)
            (func (export "run") (result i32) {body} (i32.const 0)))
          (core instance $first (instantiate $module))
          (core instance $second (instantiate $module))
          (func $run (result (result)) (canon lift (core func $first "run")))
          (instance $exports (export "run" (func $run)))
          (export "wasi:cli/run@0.2.0" (instance $exports)))"#
    )
}
