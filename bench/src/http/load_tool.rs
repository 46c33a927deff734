//! `wrk`, and what it prints → numbers.

use std::process::Command;

const SECONDS: u32 = 3;
const CONNECTIONS: u32 = 16;

/// One round.
#[derive(Debug, PartialEq)]
pub(crate) struct Measured {
    pub(crate) requests_per_second: f64,
    pub(crate) p99_us: f64,
    /// Broken connections, time-outs, and answers whose status is no success.
    pub(crate) failed: u64,
}

/// Asks the server at `address` as often as it answers, for a while.
pub(crate) fn measure(address: &str) -> Measured {
    let output = Command::new("wrk")
        .args(["--threads", "1", "--latency", "--connections", &CONNECTIONS.to_string()])
        .args(["--duration", &format!("{SECONDS}s"), &format!("http://{address}/")])
        .output()
        .expect("wrk is installed: run scripts/install-wrk.sh");
    let printed = String::from_utf8_lossy(&output.stdout);
    parse(&printed).unwrap_or_else(|| panic!("wrk printed no result:\n{printed}"))
}

fn parse(printed: &str) -> Option<Measured> {
    let line = |name: &str| printed.lines().find_map(|line| line.trim().strip_prefix(name));
    let numbers = |text: &str| -> u64 {
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok()).sum()
    };
    Some(Measured {
        requests_per_second: line("Requests/sec:")?.trim().parse().ok()?,
        p99_us: microseconds(line("99%")?.trim())?,
        failed: line("Socket errors:").map_or(0, numbers)
            + line("Non-2xx or 3xx responses:").map_or(0, numbers),
    })
}

fn microseconds(text: &str) -> Option<f64> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let value: f64 = text[..unit].parse().ok()?;
    match &text[unit..] {
        "us" => Some(value),
        "ms" => Some(value * 1e3),
        "s" => Some(value * 1e6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_prints_is_understood() {
        let printed = "\
Running 3s test @ http://127.0.0.1:8080/
  1 threads and 16 connections
  Latency Distribution
     50%  259.00us
     99%    1.93ms
  100894 requests in 2.00s, 13.37MB read
  Socket errors: connect 0, read 2, write 1, timeout 0
  Non-2xx or 3xx responses: 4
Requests/sec:  50294.67
Transfer/sec:      6.67MB
";
        let expected = Measured { requests_per_second: 50294.67, p99_us: 1930.0, failed: 7 };
        assert_eq!(parse(printed), Some(expected));
        assert_eq!(parse("unable to connect"), None);
    }
}
