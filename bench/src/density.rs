//! How many instances one process holds, and what an idle one costs.
//!
//! | key | meaning |
//! | --- | --- |
//! | `idle_kib_per_instance_command` | resident memory per idle instance of the least core module (`idle.wat`), in KiB |
//! | `idle_kib_per_instance_component` | the same of a Rust component (`steady` at its start size), whose own pages are included |
//! | `maps_per_instance` | memory maps per idle core module |
//! | `instances_max_default_maps` | the most replicas of it that the runner accepts at this host's `vm.max_map_count` and that were all seen up |
//! | `max_map_count` | that limit here; the kernel's default is 65,530 |

use std::{fs, path::Path, process::Command, time::Duration};

use ebb_testbed::{paths, runner::Runner, wait};

use crate::{cpu::resident_bytes, report::Report};

#[tokio::main]
pub(crate) async fn run() {
    let mut report = Report::new("density");
    let idle = |replicas| module("idle", &paths::wat("idle"), replicas);
    let steady = |replicas| module("steady", &paths::guest("steady"), replicas);
    let (few, many) = (cost(&idle(100), 100).await, cost(&idle(2100), 2100).await);
    report.figure("idle_kib_per_instance_command", (many.resident - few.resident) / 2000.0 / 1024.0);
    report.figure("maps_per_instance", (many.maps - few.maps) / 2000.0);
    let (few, many) = (cost(&steady(100), 100).await, cost(&steady(1100), 1100).await);
    report.figure("idle_kib_per_instance_component", (many.resident - few.resident) / 1000.0 / 1024.0);
    let max = replicas_accepted(&idle);
    let all = cost(&idle(max), max).await;
    report.figure("instances_max_default_maps", f64::from(max));
    report.figure("maps_with_that_many", all.maps);
    let limit = fs::read_to_string("/proc/sys/vm/max_map_count").expect("Linux tells its limits");
    report.figure("max_map_count", limit.trim().parse().expect("the limit is a number"));
    report.publish();
}

fn module(name: &str, path: &Path, replicas: u32) -> String {
    format!(
        "  - name: {name}\n    path: {}\n    kind: command\n    replicas: {replicas}\n    memory_limit: 16MiB\n    \
         env: {{REQUIRED_BYTES: \"1114112\"}}\n",
        path.display()
    )
}

/// What a runner with all its instances up takes of the host.
struct Cost {
    resident: f64,
    maps: f64,
}

async fn cost(modules: &str, replicas: u32) -> Cost {
    let runner = Runner::start(modules).await;
    wait::until("all instances are up", Duration::from_secs(60), async || {
        let up = runner.scrape().await.sum("wasm_instance_up", &[]);
        (up == f64::from(replicas)).then_some(())
    })
    .await;
    let maps = fs::read_to_string(format!("/proc/{}/maps", runner.process.id()))
        .expect("a child's maps can be read");
    Cost { resident: resident_bytes(runner.process.id()) as f64, maps: maps.lines().count() as f64 }
}

/// The most replicas that the runner does not refuse, by bisection.
fn replicas_accepted(modules: &impl Fn(u32) -> String) -> u32 {
    let accepted = |replicas: u32| {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let path = dir.path().join("runner.yml");
        fs::write(&path, format!("modules:\n{}", modules(replicas))).expect("a config can be written");
        let status =
            Command::new(paths::program("ebb-runner")).arg("--config").arg(&path).arg("check").output();
        status.expect("the runner can be started").status.success()
    };
    let (mut yes, mut no) = (1000, 100_000);
    assert!(accepted(yes) && !accepted(no), "the limit lies between");
    while no - yes > 50 {
        let middle = u32::midpoint(yes, no);
        if accepted(middle) { yes = middle } else { no = middle }
    }
    yes
}
