;; Traps in its start function: instantiation itself fails, `_start` is never reached.
(module
  (memory (export "memory") 1)
  (func $start
    unreachable)
  (start $start)
  (func (export "_start")))
