;; Grows by one page every half second, from 2 pages to 64, and then sleeps on. A WASI preview1 core module
;; by hand: no language runtime and no allocator stand between `memory.grow` and what the runner reports.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param $fd i32) (param $iovecs i32) (param $count i32) (param $written i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param $subscriptions i32) (param $events i32) (param $count i32) (param $ready i32)
      (result i32)))

  ;; The first page:
  ;;      0  one subscription of poll_oneoff, 48 bytes: a relative timeout on the monotonic clock
  ;;     48  the event that answers it, 32 bytes
  ;;     80  a result nobody reads: number of events, number of bytes written
  ;;     88  the one iovec of fd_write: address and length
  ;;     96  a line of output, built from its end backwards: the newline is the byte at 159
  ;;    160  "memory.size="
  (memory (export "memory") 2)
  (data (i32.const 160) "memory.size=")

  ;; Waits. The subscription's other fields are right as zeroes: user data, clock as the kind of event,
  ;; precision, and flags for a relative time.
  (func $sleep (param $nanoseconds i64)
    (i32.store (i32.const 16) (i32.const 1)) ;; the monotonic clock
    (i64.store (i32.const 24) (local.get $nanoseconds))
    (drop (call $poll_oneoff (i32.const 0) (i32.const 48) (i32.const 1) (i32.const 80))))

  ;; One call writes a whole short line, so nobody checks how much of it was written.
  (func $write (param $address i32) (param $length i32)
    (i32.store (i32.const 88) (local.get $address))
    (i32.store (i32.const 92) (local.get $length))
    (drop (call $fd_write (i32.const 1) (i32.const 88) (i32.const 1) (i32.const 84))))

  ;; Prints `memory.size=<pages>` as one line.
  (func $print_size (param $pages i32)
    (local $start i32)
    (local.set $start (i32.const 159))
    (i32.store8 (local.get $start) (i32.const 10)) ;; newline
    (loop $digit
      (local.set $start (i32.sub (local.get $start) (i32.const 1)))
      (i32.store8 (local.get $start)
        (i32.add (i32.const 48) (i32.rem_u (local.get $pages) (i32.const 10)))) ;; 48 is "0"
      (local.set $pages (i32.div_u (local.get $pages) (i32.const 10)))
      (br_if $digit (local.get $pages)))
    ;; In front of the digits, so that the line is one piece: hosts may write only the first iovec.
    (local.set $start (i32.sub (local.get $start) (i32.const 12)))
    (memory.copy (local.get $start) (i32.const 160) (i32.const 12))
    (call $write (local.get $start) (i32.sub (i32.const 160) (local.get $start))))

  (func (export "_start")
    (local $new_page i32)
    (call $print_size (memory.size))
    (loop $step
      (call $sleep (i64.const 500_000_000))
      (local.set $new_page (memory.grow (i32.const 1)))
      ;; A refused page (-1) is left out and asked for again at the next step.
      (if (i32.ne (local.get $new_page) (i32.const -1))
        ;; Only a page that is written to takes memory of the host.
        (then (i32.store (i32.shl (local.get $new_page) (i32.const 16)) (i32.const -1))))
      (call $print_size (memory.size))
      (br_if $step (i32.lt_u (memory.size) (i32.const 64))))
    (loop $again
      (call $sleep (i64.const 3_600_000_000_000))
      (br $again))))
