;; Opens the folder that it was given (fd 3) again and again and closes nothing: a leak of descriptors, not of memory.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param $folder i32) (param $lookup i32) (param $path i32) (param $length i32) (param $how i32)
      (param $rights i64) (param $inherited i64) (param $flags i32) (param $opened i32) (result i32)))

  (memory (export "memory") 1)
  (data (i32.const 100) ".")

  (func (export "_start")
    (loop $again
      ;; As a folder; where it is refused, once more.
      (drop (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 2) (i64.const 0)
        (i64.const 0) (i32.const 0) (i32.const 200)))
      (br $again))))
