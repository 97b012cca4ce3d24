//! Pods for the tests: a data directory of their own, an image with a shell, and what is known of a running pod.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::host::{Host, processes_below, scratch};
use crate::support::aci::Aci;
use crate::support::run::{Ended, Running};
use crate::support::{Run, wait};

/// A data directory for the pods of one test. Pods that still run at its end are killed.
#[derive(Debug)]
pub(crate) struct Pods {
    dir: tempfile::TempDir,
}

impl Pods {
    /// An empty data directory.
    pub(crate) fn new() -> Self {
        Self { dir: scratch() }
    }

    /// A directory for files of the test.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// A command of rkt in this data directory, split at spaces.
    pub(crate) fn rkt(&self, line: &str) -> Run {
        let words = line.split(' ').filter(|word| !word.is_empty());
        self.bare().args(words)
    }

    fn bare(&self) -> Run {
        // What the caller's environment has is no business of the tests, but for where programs are.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let run = Run::rkt().env_clear().env("PATH", path).env("TZ", "UTC").current_dir(self.path());
        run.arg("--dir").arg(self.data()).arg("--insecure-options=image")
    }

    /// `rkt run` without a network, with further flags, split at spaces.
    pub(crate) fn run(&self, flags: &str) -> Run {
        self.rkt("run --net=none").args(flags.split(' ').filter(|word| !word.is_empty()))
    }

    /// `rkt run` of one app that is a line for a shell.
    pub(crate) fn run_shell(&self, flags: &str, line: &str) -> Run {
        shell_app(self.run(flags), "app", line)
    }

    /// Starts a pod of one app that is a line for a shell, and waits until it is ready.
    pub(crate) fn start_shell(&self, flags: &str, line: &str) -> Pod<'_> {
        let name = format!("uuid-{}", PODS.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let file = self.path().join(name);
        let running = shell_app(self.run(flags).arg("--uuid-file-save").arg(&file), "app", line).start();
        self.started(running, &file)
    }

    /// Waits until the pod whose command was started, and whose UUID comes to `file`, is ready.
    pub(crate) fn started(&self, running: Running, file: &Path) -> Pod<'_> {
        wait::for_path(file);
        let uuid = std::fs::read_to_string(file).expect("the UUID file");
        let pod = Pod { pods: self, uuid, running: Some(running) };
        let patience = 20 * wait::slowness();
        pod.rkt(&format!("status --wait-ready={patience}s")).end().expect_code(0);
        pod
    }

    /// `rkt status` of the pod, as lines without the times.
    pub(crate) fn status(&self, uuid: &str) -> Vec<String> {
        let text = self.rkt("status").arg(uuid).stdout();
        text.lines()
            .filter(|line| !line.starts_with("created=") && !line.starts_with("started="))
            .map(str::to_owned)
            .collect()
    }

    /// The UUIDs of all pods in the data directory.
    pub(crate) fn uuids(&self) -> Vec<String> {
        let list = self.rkt("list --full --no-legend").stdout();
        let uuids = list.lines().filter_map(|line| line.split_whitespace().next());
        uuids.filter(|word| word.len() == 36).map(str::to_owned).collect()
    }

    /// The UUID of the only pod.
    pub(crate) fn only(&self) -> String {
        let mut uuids = self.uuids();
        assert_eq!(uuids.len(), 1, "{uuids:?}");
        uuids.remove(0)
    }
}

static PODS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

impl Drop for Pods {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("RKT_TEST_KEEP").is_some() {
            self.dir.disable_cleanup(true);
            return;
        }
        // A test that has failed already stops its pods by dropping their supervisors; another failure here would end
        // all tests.
        if !self.data().exists() || std::thread::panicking() {
            return;
        }
        for uuid in self.uuids() {
            let _ended = self.rkt("stop --force").arg(&uuid).end();
            let _ended = self.rkt(&format!("status --wait={}s", 10 * wait::slowness())).arg(&uuid).end();
            let _ended = self.rkt("rm").arg(&uuid).end();
        }
    }
}

/// Adds an app that is a line for a shell to the arguments of `rkt run`.
pub(crate) fn shell_app(run: Run, name: &str, line: &str) -> Run {
    run.arg(shell_image()).args(["--name", name, "--exec", "/bin/sh", "--", "-c", line, "---"])
}

/// The file of an image with a busybox, made once for all tests.
pub(crate) fn shell_image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        // The last part of the name makes it replace that of the run before.
        let dir = Path::new("/var/tmp/rkt-test-images");
        std::fs::create_dir_all(dir).expect("a directory for images");
        let file = Aci::new("example.com/shell", &["/bin/sh"]).write(dir);
        let own = dir.join(format!("shell-{}.aci", std::process::id()));
        std::fs::rename(file, &own).expect("a rename in one directory");
        own
    })
}

/// A pod that runs in front of the test.
#[derive(Debug)]
pub(crate) struct Pod<'a> {
    pods: &'a Pods,
    /// Its UUID.
    pub(crate) uuid: String,
    running: Option<Running>,
}

impl Pod<'_> {
    /// Its name for machined.
    pub(crate) fn machine(&self) -> String {
        format!("rkt-{}", self.uuid)
    }

    /// A command of rkt with this pod as the last argument.
    pub(crate) fn rkt(&self, line: &str) -> Run {
        self.pods.rkt(line).arg(&self.uuid)
    }

    /// The `rkt run` that became its supervisor.
    pub(crate) fn supervisor(&mut self) -> &mut Running {
        self.running.as_mut().expect("not ended yet")
    }

    /// Waits for the end of `rkt run`.
    pub(crate) fn end(&mut self) -> Ended {
        self.running.take().expect("not ended yet").end()
    }

    /// The lines of `rkt status` but for the times.
    pub(crate) fn status(&self) -> Vec<String> {
        self.pods.status(&self.uuid)
    }

    /// Its directory while it runs and until it is collected.
    pub(crate) fn dir(&self) -> PathBuf {
        self.pods.data().join("pods/run").join(&self.uuid)
    }

    /// Fails the test unless nothing of the pod runs any more.
    pub(crate) fn expect_nothing_runs(&self, host: &Host) {
        expect_nothing_runs(host, &self.uuid);
    }
}

/// The name of a pod's scope.
pub(crate) fn scope(uuid: &str) -> String {
    format!("machine-rkt\\x2d{}.scope", uuid.replace('-', "\\x2d"))
}

/// Fails the test unless machined, systemd and the kernel have nothing of the pod any more.
pub(crate) fn expect_nothing_runs(host: &Host, uuid: &str) {
    host.wait_for_machine_gone(&format!("rkt-{uuid}"));
    wait::until("the scope is gone", || match host.unit_property(&scope(uuid), "ActiveState").as_str() {
        "inactive" => Ok(()),
        other => Err(other.to_owned()),
    });
    let left = processes_below(&format!("/machine.slice/{}", scope(uuid)));
    assert!(left.is_empty(), "still running: {left:?}");
}

/// What apps wrote to the console, as pairs of app and text; fails the test when a line has another form than
/// `[ ssss.ssssss] app[pid]: text`.
pub(crate) fn console(output: &str) -> Vec<(String, String)> {
    assert!(!output.contains('\r'), "carriage returns: {output:?}");
    output
        .lines()
        .map(|line| console_line(line).unwrap_or_else(|| panic!("no console line: {line:?} of {output}")))
        .collect()
}

fn console_line(line: &str) -> Option<(String, String)> {
    let (time, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let (seconds, micros) = time.trim_start().split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (source, text) = rest.split_once(": ")?;
    let (app, pid) = source.strip_suffix(']')?.split_once('[')?;
    (digits(seconds) && digits(micros) && micros.len() == 6 && digits(pid))
        .then(|| (app.to_owned(), text.to_owned()))
}

/// The texts of one app on the console.
pub(crate) fn said_by(output: &str, app: &str) -> Vec<String> {
    console(output).into_iter().filter(|(name, _)| name == app).map(|(_, text)| text).collect()
}
