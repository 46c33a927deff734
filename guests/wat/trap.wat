;; Instantiates, then traps at once when run.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    unreachable))
