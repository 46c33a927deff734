;; Never returns and never calls the host: only an interruption from outside ends it, and it must not keep
;; others from running.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $again
      (br $again))))
