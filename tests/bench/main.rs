//! `make bench`: whole commands, interleaved with their peers in one run, medians against the budgets.
//!
//! It runs on a booted system with podman and GNU time, as root, on the release build. Interleaved means: one run of each
//! command, then the next of each, so that what else the machine does meets all of them alike. Standard output is the
//! table; the exit status is 1 when a budget was missed.

#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

mod fetch;
#[path = "../support/mod.rs"]
mod support;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// The pods that `rkt list` is measured with.
const MANY_PODS: usize = 1000;
/// The images that `rkt image list` is measured with.
const MANY_IMAGES: usize = 1000;
/// The size of the root file system of the image whose import is measured.
const BIG_IMAGE_MIB: usize = 300;

fn main() -> ExitCode {
    let hello = PathBuf::from(std::env::args_os().nth(1).expect("an argument: the static program to run"));
    let runs = std::env::var("BENCH_RUNS").map_or(20, |text| text.parse().expect("BENCH_RUNS is a number"));
    let dir = tempfile::Builder::new()
        .prefix("rkt-bench-")
        .tempdir_in("/var/tmp")
        .expect("a directory in /var/tmp");
    let bench = Bench { dir: dir.path().to_owned(), runs, missed: 0 };
    let parts: Vec<String> = std::env::args().skip(2).collect();
    bench.run(&hello, &parts)
}

/// One part of all that is measured.
type Measure<'a> = &'a dyn Fn(&mut Bench);

/// A directory for everything, and what came out so far.
struct Bench {
    dir: PathBuf,
    runs: usize,
    missed: usize,
}

impl Bench {
    /// Measures all, or these parts.
    fn run(mut self, hello: &Path, parts: &[String]) -> ExitCode {
        println!("{} interleaved runs each; median (lowest) in milliseconds", self.runs);
        let measures: [(&str, Measure<'_>); 6] = [
            ("start", &|bench| bench.start(hello)),
            ("network", &|bench| bench.start_with_network(hello)),
            ("plugins", &|bench| bench.plugins()),
            ("commands", &|bench| bench.small_commands(hello)),
            ("import", &|bench| bench.import(hello)),
            ("fetch", &|bench| bench.fetch()),
        ];
        let names = measures.map(|(name, _)| name);
        let unknown = parts.iter().find(|part| !names.contains(&part.as_str()));
        assert!(unknown.is_none(), "no part {unknown:?}; there are: {}", names.join(" "));
        for (name, measure) in measures {
            if parts.is_empty() || parts.iter().any(|part| part == name) {
                measure(&mut self);
            }
        }
        if self.missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// A cached image of one app, started and ended.
    fn start(&mut self, hello: &Path) {
        let root = self.dir.join("root");
        root_with(&root, hello);
        let aci = self.aci("hello", &root);
        let data = self.dir.join("start");
        let id = rkt(&data, &["--insecure-options=image", "fetch"]).arg(&aci).said();
        give_podman(&root);

        let nspawn =
            command("systemd-nspawn", &["--quiet", "--settings=no", "--register=yes", "--directory"]);
        let podman = ["run", "--rm", "--net=none", "--cgroups=disabled", "bench-hello", "/app/hello"];
        let medians = self.measure(
            "start, no network",
            [
                ("rkt run", rkt(&data, &["run", "--net=none", &id])),
                ("systemd-nspawn", nspawn.arg(&root).arg("--machine=bench").arg("/app/hello")),
                ("podman run", command("podman", &podman)),
            ],
        );
        let [rkt, nspawn, podman] = medians;
        self.budget("rkt run / systemd-nspawn", rkt.as_secs_f64() / nspawn.as_secs_f64(), 2.2);
        self.budget("rkt run / podman run", rkt.as_secs_f64() / podman.as_secs_f64(), 1.0);
    }

    /// The same on the default network of each.
    fn start_with_network(&mut self, hello: &Path) {
        let root = self.dir.join("root");
        root_with(&root, hello);
        let aci = self.aci("hello", &root);
        give_podman(&root);
        let data = self.dir.join("network");
        let id = rkt(&data, &["--insecure-options=image", "fetch"]).arg(&aci).said();
        let podman = ["run", "--rm", "--cgroups=disabled", "bench-hello", "/app/hello"];
        let [rkt_, podman] = self.measure_after(
            "start, default network",
            [
                // What is over is taken from the network before the clock runs, as `rkt gc` does it on a host.
                (
                    "rkt run",
                    rkt(&data, &["run", &id]),
                    format!("{} --dir={} gc >&2", rkt_path(), data.display()),
                ),
                ("podman run", command("podman", &podman), String::new()),
            ],
        );
        self.budget("rkt run / podman run", rkt_.as_secs_f64() / podman.as_secs_f64(), 0.6);
    }

    /// Where the time of the default network goes: its plugins, one by one, as rkt executes them; and what ptp would take
    /// if it masqueraded, which rkt does itself.
    fn plugins(&mut self) {
        const NETWORK: &str = "bench-plugins";
        must(shell(&format!("ip netns delete {NETWORK} 2>/dev/null; ip netns add {NETWORK}")));
        let ipam = format!(
            r#"{{"type":"host-local","subnet":"172.16.200.0/24","dataDir":"{}"}}"#,
            self.dir.display()
        );
        let head = r#""cniVersion":"0.4.0","name":"bench""#;
        let previous = r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"172.16.200.9/24"}]}"#;
        let ports = r#"[{"hostPort":9999,"containerPort":80,"protocol":"tcp"}]"#;
        let add_after_delete = |plugin: &str, conf: &str| {
            // The first time there is nothing to delete, which not every plugin takes for success.
            let run = |verb: &str, end: &str| {
                format!(
                    "CNI_COMMAND={verb} CNI_CONTAINERID=bench CNI_NETNS=/run/netns/{NETWORK} CNI_IFNAME=eth0 \
                     CNI_PATH=/usr/lib/cni /usr/lib/cni/{plugin} <<'END' {end}\n{conf}\nEND\n"
                )
            };
            (shell(&run("ADD", "")), run("DEL", "|| :"))
        };
        let (version, _) = add_after_delete("ptp", "");
        let version = shell(&version.args[1].to_string_lossy().replace("=ADD", "=VERSION"));
        let (address, no_address) = add_after_delete("host-local", &format!(r#"{{{head},"ipam":{ipam}}}"#));
        let (ptp, _) = add_after_delete("ptp", &format!(r#"{{{head},"type":"ptp","ipam":{ipam}}}"#));
        let masquerading = format!(r#"{{{head},"type":"ptp","ipMasq":true,"ipam":{ipam}}}"#);
        let (masquerade, no_masquerade) = add_after_delete("ptp", &masquerading);
        let forwarding = format!(
            r#"{{{head},"type":"portmap","prevResult":{previous},"runtimeConfig":{{"portMappings":{ports}}}}}"#
        );
        let (forward, no_forward) = add_after_delete("portmap", &forwarding);
        self.measure_after(
            "plugins of the default network, ADD",
            [
                ("a plugin's VERSION", version, String::new()),
                ("host-local", address, no_address),
                ("ptp with host-local", ptp, no_masquerade.clone()),
                ("the same, if it masqueraded", masquerade, no_masquerade.clone()),
                ("portmap, one port", forward, no_forward.clone()),
            ],
        );
        must(shell(&format!("{no_masquerade}{no_forward}ip netns delete {NETWORK}")));
    }

    /// What a person types all day.
    fn small_commands(&mut self, hello: &Path) {
        let (none, many) = (self.dir.join("none"), self.dir.join("many"));
        let root = self.dir.join("root");
        root_with(&root, hello);
        let aci = self.aci("hello", &root);
        let id = rkt(&many, &["--insecure-options=image", "fetch"]).arg(&aci).said();
        for _ in 0..MANY_PODS {
            rkt(&many, &["prepare", &id]).said();
        }
        let images = self.dir.join("images");
        rkt(&images, &["--insecure-options=image", "fetch"]).arg(&aci).said();
        must(shell(&format!(
            "cd {}/cas/image && for i in $(seq {MANY_IMAGES}); do cp -al sha512-* \"$(printf %064x \"$i\")\"; done && \
             for dir in 0*; do mv \"$dir\" sha512-\"$dir\"; done",
            images.display()
        )));
        let [version, list_none, list_many, image_list] = self.measure(
            "small commands",
            [
                ("rkt --version", rkt(&none, &["--version"])),
                ("rkt list, no pod", rkt(&none, &["list"])),
                ("rkt list, 1000 pods", rkt(&many, &["list"])),
                ("rkt image list, 1000 images", rkt(&images, &["image", "list"])),
            ],
        );
        self.budget("rkt --version, ms", milliseconds(version), 5.0);
        self.budget("rkt list with no pod, ms", milliseconds(list_none), 5.0);
        self.budget("rkt list with 1000 pods, ms", milliseconds(list_many), 100.0);
        self.budget("image list with 1000, ms", milliseconds(image_list), 100.0);
    }

    /// A large image from a file into the store.
    fn import(&mut self, hello: &Path) {
        let root = self.dir.join("big");
        root_with(&root, hello);
        fill(&root.join("data"));
        let aci = self.aci("big", &root);
        let (data, out) = (self.dir.join("import"), self.dir.join("out"));
        let peak = self.dir.join("peak");
        let fresh = |dir: &Path| format!("rm -rf {0}; mkdir {0}; sync", dir.display());

        let rkt_time = command("/usr/bin/time", &["--format=%M", "--output"]).arg(&peak).arg(rkt_path());
        let rkt_time = rkt_time.arg(dir_flag(&data)).args(&["--insecure-options=image", "fetch"]).arg(&aci);
        let tar = shell(&format!("tar -C {} -xzf {} && sync -f {0}", out.display(), aci.display()));
        self.measure_after(
            "import of a 300 MiB image, gzip",
            [("rkt fetch FILE", rkt_time, fresh(&data)), ("tar xzf; sync", tar, fresh(&out))],
        );
        let peak_kib: f64 =
            fs::read_to_string(&peak).expect("a peak").trim().parse().expect("a number from time(1)");
        self.budget("peak memory of the import, MiB", peak_kib / 1024.0, 64.0);
    }

    /// Packs an image of `root` that runs the program in it.
    fn aci(&self, name: &str, root: &Path) -> PathBuf {
        let layout = self.dir.join(format!("{name}.layout"));
        let aci = self.dir.join(format!("{name}.aci"));
        fs::create_dir_all(&layout).expect("a new directory");
        let manifest = format!(
            r#"{{"acKind":"ImageManifest","acVersion":"0.8.11","name":"bench/{name}","labels":[{{"name":"os","value":"linux"}},{{"name":"arch","value":"amd64"}}],"app":{{"exec":["/app/hello"],"user":"0","group":"0"}}}}"#
        );
        fs::write(layout.join("manifest"), manifest).expect("a manifest");
        let (layout, root, aci_) = (layout.display(), root.display(), aci.display());
        must(shell(&format!(
            "tar -C {layout} --transform 's,^\\./root,rootfs,' -cf {aci_}.tar manifest && \
             tar -C {root} --transform 's,^\\.,rootfs,S' -rf {aci_}.tar . && gzip -1 <{aci_}.tar >{aci_} && rm {aci_}.tar"
        )));
        aci
    }

    fn measure<const N: usize>(&mut self, title: &str, commands: [(&str, Invocation); N]) -> [Duration; N] {
        self.measure_after(title, commands.map(|(name, command)| (name, command, String::new())))
    }

    /// Runs each command in turn, after its own untimed preparation; the first round warms caches and is left out.
    fn measure_after<const N: usize>(
        &mut self,
        title: &str,
        commands: [(&str, Invocation, String); N],
    ) -> [Duration; N] {
        let mut times = [const { Vec::new() }; N];
        for round in 0..=self.runs {
            for ((name, command, before), times) in commands.iter().zip(&mut times) {
                must(shell(before));
                let took = command.timed(name);
                if round > 0 {
                    times.push(took);
                }
            }
        }
        println!("\n{title}");
        let mut medians = [Duration::ZERO; N];
        for (((name, ..), times), median) in commands.iter().zip(&mut times).zip(&mut medians) {
            times.sort_unstable();
            *median = times[times.len() / 2];
            println!("  {name:<32} {:>9.1} ({:.1})", milliseconds(*median), milliseconds(times[0]));
        }
        medians
    }

    fn budget(&mut self, what: &str, seen: f64, at_most: f64) {
        let met = seen <= at_most;
        self.missed += usize::from(!met);
        println!("  {what:<32} {seen:>9.2} of {at_most:.1}: {}", if met { "met" } else { "MISSED" });
    }
}

/// A command that can be run again and again.
struct Invocation {
    program: OsString,
    args: Vec<OsString>,
}

impl Invocation {
    fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(Into::into));
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null());
        command
    }

    /// Runs it without its output, and returns the wall time. It must succeed.
    fn timed(&self, name: &str) -> Duration {
        let mut errors = tempfile::tempfile().expect("a temporary file");
        let kept = errors.try_clone().expect("a second descriptor");
        let begin = Instant::now();
        let status = self.command().stdout(Stdio::null()).stderr(kept).status();
        let took = begin.elapsed();
        let status = status.unwrap_or_else(|cause| panic!("{name}: {cause}"));
        if !status.success() {
            let mut text = String::new();
            std::io::Seek::rewind(&mut errors).expect("a seekable file");
            std::io::Read::read_to_string(&mut errors, &mut text).expect("text");
            panic!("{name}: {status}\n{text}");
        }
        took
    }

    /// Runs it, and returns the last line of its output. It must succeed.
    fn said(&self) -> String {
        let output = self.command().stderr(Stdio::inherit()).output().expect("a command that starts");
        assert!(output.status.success(), "{:?} {:?}: {}", self.program, self.args, output.status);
        String::from_utf8(output.stdout).expect("text").lines().last().unwrap_or_default().to_owned()
    }
}

fn command(program: &str, args: &[&str]) -> Invocation {
    Invocation { program: program.into(), args: Vec::new() }.args(args)
}

fn shell(script: &str) -> Invocation {
    command("sh", &["-c", script])
}

fn must(invocation: Invocation) {
    invocation.timed("preparation");
}

fn rkt_path() -> &'static str {
    env!("CARGO_BIN_EXE_rkt")
}

fn dir_flag(data: &Path) -> OsString {
    let mut flag = OsString::from("--dir=");
    flag.push(data);
    flag
}

fn rkt(data: &Path, args: &[&str]) -> Invocation {
    command(rkt_path(), &[]).arg(dir_flag(data)).args(args)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Makes a root file system with nothing but the program as /app/hello.
fn root_with(root: &Path, hello: &Path) {
    for name in ["app", "usr", "etc", "proc", "sys", "dev", "run", "tmp"] {
        fs::create_dir_all(root.join(name)).expect("a new directory");
    }
    fs::copy(hello, root.join("app/hello")).expect("a copy of the program");
}

/// Makes podman's image of the same root file system.
fn give_podman(root: &Path) {
    must(shell(&format!("tar -C {} -c . | podman import - bench-hello >&2", root.display())));
}

/// Fills a directory with files that compress about as well as programs do: half noise, half the same again.
fn fill(dir: &Path) {
    fs::create_dir_all(dir).expect("a new directory");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..BIG_IMAGE_MIB {
        let mut bytes = vec![0; 1 << 20];
        for (index, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            // xorshift64: noise that is the same in every run.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if index / 512 % 2 == 0 {
                chunk.copy_from_slice(&state.to_le_bytes());
            }
        }
        let mut file = File::create_new(dir.join(format!("file-{number:03}"))).expect("a new file");
        file.write_all(&bytes).expect("a written file");
    }
}
