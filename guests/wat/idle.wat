;; Holds one page and sleeps for ever: the least that an instance costs its host.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param $subscriptions i32) (param $events i32) (param $count i32) (param $ready i32)
      (result i32)))

  ;; The first page:
  ;;      0  one subscription of poll_oneoff, 48 bytes: a relative timeout on the monotonic clock
  ;;     48  the event that answers it, 32 bytes
  ;;     80  a result nobody reads: number of events
  (memory (export "memory") 1)

  ;; Waits. The subscription's other fields are right as zeroes: user data, clock as the kind of event,
  ;; precision, and flags for a relative time.
  (func $sleep (param $nanoseconds i64)
    (i32.store (i32.const 16) (i32.const 1)) ;; the monotonic clock
    (i64.store (i32.const 24) (local.get $nanoseconds))
    (drop (call $poll_oneoff (i32.const 0) (i32.const 48) (i32.const 1) (i32.const 80))))

  (func (export "_start")
    (loop $again
      (call $sleep (i64.const 3_600_000_000_000))
      (br $again))))
