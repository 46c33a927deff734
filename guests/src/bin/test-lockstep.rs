//! Grows, traps or exits when told to, one command at a time, so that a test can compare what the runner
//! reports with this guest's own `memory.size`, exactly.
//!
//! The driver and the guest talk through files in a directory that is preopened as `/ctl`, for one replica:
//!
//! 1. At every start the guest writes `ack-0`, as if it had been told `grow 0`. A driver that waits for a
//!    restart removes that of the life before.
//! 2. The driver writes `cmd-<N>`, then `step` with the number N, counting up from 1. It writes `step` to
//!    another name first and renames it, so that the guest never reads half a number.
//! 3. The guest removes `cmd-<N>`, does what it says and writes `ack-<N>`: `<pages> <result>`.
//!
//! | command | effect | result |
//! | --- | --- | --- |
//! | `grow <pages>` | `memory.grow`; 0 asks for the size | the old size in pages, -1 when refused |
//! | `trap` | `unreachable` | no `ack` |
//! | `exit <code>` | exit with this code; hosts of WASI 0.2 see 0 or 1 | no `ack` |
//!
//! A command is removed before it is carried out, so that a restarted guest does not trap again on it.

use core::arch::wasm32;
use std::fs;
use std::io::ErrorKind;
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

enum Command {
    Grow { pages: usize },
    Trap,
    Exit { code: i32 },
}

fn main() {
    // The acknowledgement of step 0 also takes the allocator through everything that later ones need, so
    // that from here on only commands change the memory's size.
    carry_out(0, &Command::Grow { pages: 0 });
    println!("test-lockstep memory.size={}", wasm32::memory_size(0));
    let mut last = 0;
    loop {
        sleep(Duration::from_millis(5));
        let Some(step) = current_step().filter(|step| *step > last) else {
            continue;
        };
        last = step;
        if let Some(command) = taken(step) {
            carry_out(step, &command);
        }
    }
}

/// The number in `step`; none before the driver wrote the first one.
fn current_step() -> Option<u64> {
    match fs::read_to_string("/ctl/step") {
        Ok(text) => Some(
            text.trim()
                .parse()
                .unwrap_or_else(|_| broken(&format!("/ctl/step says {text:?}: expected a whole number"))),
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => broken(&format!("reading /ctl/step: {error}")),
    }
}

/// The command of a step; none when an earlier life of this guest took it already.
fn taken(step: u64) -> Option<Command> {
    let path = format!("/ctl/cmd-{step}");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => broken(&format!("reading {path}: {error}")),
        Ok(text) => text,
    };
    if let Err(error) = fs::remove_file(&path) {
        broken(&format!("removing {path}: {error}"));
    }
    let command = parsed(&text);
    Some(command.unwrap_or_else(|| {
        broken(&format!("{path} says {text:?}: expected grow <pages>, trap or exit <code>"))
    }))
}

fn parsed(text: &str) -> Option<Command> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        ["grow", pages] => Some(Command::Grow { pages: pages.parse().ok()? }),
        ["trap"] => Some(Command::Trap),
        ["exit", code] => Some(Command::Exit { code: code.parse().ok()? }),
        _ => None,
    }
}

fn carry_out(step: u64, command: &Command) {
    match *command {
        Command::Grow { pages } => {
            // The instruction answers a refusal with all bits set: -1.
            let old_pages = wasm32::memory_grow(0, pages) as isize;
            acknowledge(step, old_pages);
        }
        Command::Trap => wasm32::unreachable(),
        Command::Exit { code } => exit(code),
    }
}

/// Written under another name and renamed, so that the driver never reads half of it.
fn acknowledge(step: u64, result: isize) {
    let text = format!("{} {result}\n", wasm32::memory_size(0));
    let written =
        fs::write("/ctl/ack.tmp", text).and_then(|()| fs::rename("/ctl/ack.tmp", format!("/ctl/ack-{step}")));
    if let Err(error) = written {
        broken(&format!("writing /ctl/ack-{step}: {error}"));
    }
}

/// Ends the guest: the driver broke the protocol, and a test must not wait for an answer.
fn broken(message: &str) -> ! {
    eprintln!("test-lockstep: {message}");
    exit(2)
}
