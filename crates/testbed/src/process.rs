//! One child process: its log, its signals, its end.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::wait::{poll_blocking, until};

/// A child process. It is ended when this value is dropped, and by the kernel if this process dies.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

/// How long a log line may take.
const SAY_WITHIN: Duration = Duration::from_secs(60);

/// How long a process may take to end by itself.
const END_WITHIN: Duration = Duration::from_secs(20);

impl Process {
    /// Starts `program`; what it prints goes to `log`, behind what is there.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(program: &Path, args: I, log: &Path) -> Self {
        Self::start_in(program, args, log, Vec::new(), None)
    }

    /// As [`Process::start`], with further variables in its environment, and limits of file descriptors if there are any:
    /// the soft and the hard one.
    ///
    /// # Panics
    /// When it cannot be started.
    pub(crate) fn start_in<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        program: &Path,
        args: I,
        log: &Path,
        environment: Vec<(&str, OsString)>,
        descriptors: Option<(u64, u64)>,
    ) -> Self {
        let output = File::options().create(true).append(true).open(log).expect("a log can be created");
        let errors = output.try_clone().expect("a file handle can be cloned");
        let limited = descriptors.map(|(soft, hard)| {
            let mut command = Command::new("prlimit");
            command.arg(format!("--nofile={soft}:{hard}")).arg("setpriv");
            command
        });
        // setpriv (util-linux) has the kernel kill the child when this process dies, however it dies.
        let child = limited
            .unwrap_or_else(|| Command::new("setpriv"))
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(args)
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("starting {} by prlimit and setpriv of util-linux: {error}", program.display())
            });
        Self { child, log: log.to_owned() }
    }

    /// Process number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it has printed `text`; everything that it printed so far. What it logs arrives a moment after it was done.
    ///
    /// # Panics
    /// When it does not.
    pub async fn says(&self, text: &str) -> String {
        until(text, SAY_WITHIN, async || Some(self.log()).filter(|log| log.contains(text))).await
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) {
        signal::kill(self.pid(), signal).expect("a process that was not waited for can be signalled");
    }

    /// Kills it at once, as an OOM kill or a power cut would.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// When it does not end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        let ended = poll_blocking(END_WITHIN, || self.child.try_wait().expect("a child can be waited for"));
        ended.unwrap_or_else(|| panic!("process {} did not end; its log:\n{}", self.id(), self.log()))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process numbers fit into 31 bits"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            // A stopped process does not see SIGTERM until it goes on.
            let _ = signal::kill(self.pid(), Signal::SIGCONT);
            let _ = signal::kill(self.pid(), Signal::SIGTERM);
            let child = &mut self.child;
            if poll_blocking(Duration::from_secs(5), || child.try_wait().ok().flatten()).is_none() {
                let _ = self.child.kill();
            }
            let _ = self.child.wait();
        }
    }
}
