;; Each call of `leak` takes a page of memory, writes to it, and never gives it back.
(module
  (memory (export "memory") 1)
  (func (export "leak")
    (local $new_page i32)
    (local.set $new_page (memory.grow (i32.const 1)))
    (if (i32.ne (local.get $new_page) (i32.const -1))
      (then (i32.store (i32.shl (local.get $new_page) (i32.const 16)) (i32.const -1))))))
