;; Leaks a page in seven steps of ten from one function and in three from another, a hundred pages in a few seconds, and then sleeps
;; on. Both ask the same allocator.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param $subscriptions i32) (param $events i32) (param $count i32) (param $ready i32)
      (result i32)))

  ;; The first page, as in idle.wat.
  (memory (export "memory") 1)

  (func $sleep (param $nanoseconds i64)
    (i32.store (i32.const 16) (i32.const 1)) ;; the monotonic clock
    (i64.store (i32.const 24) (local.get $nanoseconds))
    (drop (call $poll_oneoff (i32.const 0) (i32.const 48) (i32.const 1) (i32.const 80))))

  ;; Like any allocator, it has something to do with the page that it got.
  (func $malloc
    (local $left i32)
    (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (unreachable)))
    (local.set $left (i32.const 8))
    (loop $initialize
      (br_if $initialize (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))

  (func $app::sessions::open (call $malloc))

  (func $app::cache::fill (call $malloc))

  (func $_start (export "_start")
    (local $step i32)
    (loop $next
      (call $sleep (i64.const 20_000_000))
      (if (i32.lt_u (i32.rem_u (local.get $step) (i32.const 10)) (i32.const 7))
        (then (call $app::sessions::open))
        (else (call $app::cache::fill)))
      (local.set $step (i32.add (local.get $step) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $step) (i32.const 100))))
    (loop $again
      (call $sleep (i64.const 3_600_000_000_000))
      (br $again))))
