//! The gauge is exact: at every scrape it equals the guest's own `memory.size`.

use std::{fs, path::Path};

use ebb_testbed::{paths, runner::Runner, wait};
use tempfile::TempDir;

use crate::support::{self, DEADLINE};

const PAGE_BYTES: f64 = 65_536.0;

/// The guest `test-lockstep`, driven command by command through files.
struct Lockstep {
    runner: Runner,
    ctl: TempDir,
    step: u64,
}

impl Lockstep {
    async fn start() -> Self {
        let ctl = TempDir::new().unwrap();
        let runner = Runner::start(&format!(
            "  - name: lockstep\n    path: {}\n    kind: command\n    replicas: 1\n    memory_limit: 8MiB\n    \
             dirs: [{{host: {}, guest: /ctl}}]\n    restart: {{backoff_min: 10ms}}\n",
            paths::guest("test-lockstep").display(),
            ctl.path().display()
        ))
        .await;
        let mut lockstep = Self { runner, ctl, step: 0 };
        lockstep.acknowledged().await;
        lockstep
    }

    /// Gives a command and does not wait.
    fn tell(&mut self, command: &str) {
        self.step += 1;
        fs::write(self.path(&format!("cmd-{}", self.step)), command).unwrap();
        fs::write(self.path("step.new"), self.step.to_string()).unwrap();
        fs::rename(self.path("step.new"), self.path("step")).unwrap();
    }

    /// The guest's own `memory.size` in pages and the command's result, once it has answered.
    async fn acknowledged(&mut self) -> (i64, i64) {
        let path = self.path(&format!("ack-{}", self.step));
        wait::until(&format!("the guest has written {}", path.display()), DEADLINE, async || answer(&path))
            .await
    }

    async fn scraped_bytes(&self) -> Option<f64> {
        self.runner.scrape().await.one("wasm_linear_memory_bytes", &[])
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.ctl.path().join(name)
    }
}

fn answer(path: &Path) -> Option<(i64, i64)> {
    let text = fs::read_to_string(path).ok()?;
    let (pages, result) = text.trim().split_once(' ')?;
    Some((pages.parse().ok()?, result.parse().ok()?))
}

fn bytes(pages: i64) -> f64 {
    pages as f64 * PAGE_BYTES
}

#[tokio::test]
async fn the_gauge_of_a_component_is_exact_through_grows_denied_grows_traps_and_restarts() {
    let mut guest = Lockstep::start().await;
    // The limit is 128 pages: some of these are denied, in a fixed order that repeats.
    let growths = [1, 0, 3, 500, 7, 1000, 2, 0, 30, 90, 5];
    let mut denied = 0.0;
    for life in 0..3 {
        for pages in growths {
            guest.tell(&format!("grow {pages}"));
            let (size, result) = guest.acknowledged().await;
            denied += f64::from(u8::from(result < 0));
            assert_eq!(guest.scraped_bytes().await, Some(bytes(size)), "life {life}, grow {pages}");
        }
        let old = guest.runner.instance("lockstep", 0).await["generation"].clone();
        let ready = guest.path("ack-0");
        fs::remove_file(&ready).unwrap();
        if life == 0 {
            guest.tell("trap");
        } else {
            let response = guest.runner.restart("lockstep", 0).send().await.unwrap();
            assert_eq!(response.status(), 200);
        }
        let (size, _) = wait::until("the guest lives again", DEADLINE, async || answer(&ready)).await;
        assert_eq!(guest.scraped_bytes().await, Some(bytes(size)), "after life {life}");
        assert_ne!(guest.runner.instance("lockstep", 0).await["generation"], old);
    }
    let scrape = guest.runner.scrape().await;
    assert!(denied > 0.0);
    assert_eq!(scrape.one("wasm_linear_memory_grow_failures_total", &[]), Some(denied));
    assert_eq!(scrape.sum("wasm_instance_restarts_total", &["reason=\"crash\""]), 1.0);
    assert_eq!(scrape.sum("wasm_instance_restarts_total", &["reason=\"operator\""]), 2.0);
}

#[tokio::test]
async fn the_gauge_of_a_module_with_two_memories_is_their_sum() {
    let runner = Runner::start(&support::wat("two-memories", "")).await;
    // The sums of both sizes in pages that the guest prints, step by step; denied steps repeat one.
    let sizes = [3.0, 5.0, 6.0, 8.0, 9.0, 11.0, 12.0];
    let mut last = 0.0;
    wait::until("the guest has taken its last step", DEADLINE, async || {
        let pages = runner.scrape().await.one("wasm_linear_memory_bytes", &[]).unwrap() / PAGE_BYTES;
        assert!(sizes.contains(&pages) && pages >= last, "{pages} pages after {last}");
        last = pages;
        runner.process.log().contains("memory.size=12").then_some(())
    })
    .await;
    assert_eq!(runner.scrape().await.one("wasm_linear_memory_bytes", &[]), Some(12.0 * PAGE_BYTES));
}

#[tokio::test]
async fn the_gauge_of_a_growing_core_module_never_tells_a_size_the_guest_did_not_have() {
    let runner = Runner::start(&support::wat("growing", "")).await;
    for _ in 0..5 {
        let before = last_printed_pages(&runner);
        let scraped = runner.scrape().await.one("wasm_linear_memory_bytes", &[]).unwrap() / PAGE_BYTES;
        // The guest grows by one page and then prints it: what is scraped lies between what was printed
        // before, and one more than what is printed afterwards.
        let after = last_printed_pages(&runner);
        assert!(before <= scraped && scraped <= after + 1.0, "{before} ≤ {scraped} ≤ {after} + 1");
        wait::until("the guest has grown", DEADLINE, async || {
            (last_printed_pages(&runner) > after).then_some(())
        })
        .await;
    }
}

fn last_printed_pages(runner: &Runner) -> f64 {
    let log = runner.process.log();
    let printed =
        log.lines().rev().find_map(|line| line.split_once("memory.size=").map(|(_, rest)| rest.to_owned()));
    let digits: String = printed.unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0.0)
}
