//! A large image from a registry on this host into a cold store: `rkt fetch` against `podman pull` and `skopeo copy`.
//!
//! The image has the files of /usr, as often as it takes. Below the commands stand two that do a part of the work and no
//! more, one after the other: they tell what is left of the time when everything else costs nothing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::support::registry::{Registry, login};
use super::{Bench, Invocation, command, dir_flag, milliseconds, must, rkt_path, shell};

/// An address of this host that no other server has.
const HOST: &str = "127.0.0.76";
/// Rounds, at most: each takes seconds.
const MOST_RUNS: usize = 5;

/// Makes the layouts `gzip` and `zstd` of an image of 500 MiB in five layers.
const IMAGES: &str = r#"
umoci init --layout gzip
umoci new --image gzip:big
umoci unpack --image gzip:big bundle
find /usr -xdev '(' -type f -o -type l ')' -printf '%s %P\n' | LC_ALL=C sort -k2 >files
size=$((100 << 20)) sum=0 layer=0
for copy in {0..9}; do
  while read -r bytes path; do
    echo "$path" >>"list-$layer-$copy"
    sum=$((sum + bytes))
    if [ "$sum" -ge "$size" ]; then
      sum=0 layer=$((layer + 1))
      if [ "$layer" = 5 ]; then break 2; fi
    fi
  done <files
done
for layer in {0..4}; do
  for list in list-$layer-*; do
    mkdir -p "bundle/rootfs/copy-${list##*-}"
    tar -C /usr -c --no-recursion --verbatim-files-from --files-from "$list" | tar -C "bundle/rootfs/copy-${list##*-}" -x
  done
  umoci repack --refresh-bundle --image gzip:big bundle
done
umoci config --image gzip:big --config.cmd /none
skopeo copy --quiet --insecure-policy --dest-compress --dest-compress-format zstd oci:gzip:big oci:zstd:big
rm -rf bundle
"#;

/// What a command takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    wall: Duration,
    /// User and system time of all its processes.
    cpu: Duration,
    /// The largest resident set of one of its processes.
    peak_kib: u64,
}

impl Bench {
    pub(super) fn fetch(&mut self) {
        let dir = self.dir.join("fetch");
        fs::create_dir_all(&dir).expect("a new directory");
        let script = format!("cd {} && {IMAGES}", dir.display());
        must(command("bash", &["-euo", "pipefail", "-c", &script]));
        let registry = Registry::start(&dir, HOST);
        login(&dir.join("etc"), &[&format!("{HOST}:5000")], "secret");
        for packing in ["gzip", "zstd"] {
            registry.push(&format!("oci:{packing}:big"), &format!("big:{packing}"));
            self.fetch_packed(&registry, packing);
        }
    }

    fn fetch_packed(&mut self, registry: &Registry, packing: &str) {
        let dir = &registry.dir;
        let name = registry.name(&format!("big:{packing}"));
        let layers = layers(&dir.join(packing));
        let in_dir = |name: &str| dir.join(name).display().to_string();
        let fresh = |name: &str| format!("rm -rf {0}; mkdir {0}; sync", in_dir(name));
        let trust = format!("SSL_CERT_FILE={}", in_dir("ca.pem"));
        let env = || command("env", &[&trust]);

        let rkt = env()
            .arg(rkt_path())
            .arg(dir_flag(&dir.join("data")))
            .arg(format!("--local-config={}", in_dir("etc")));
        let rkt = rkt.args(&["--insecure-options=image", "fetch", &name]);
        let podman =
            env().args(&["podman", "--root", &in_dir("podman/root"), "--runroot", &in_dir("podman/run")]);
        let podman = podman.args(&["pull", "--quiet", "--creds=user:secret", &name]);
        let skopeo =
            env().args(&["skopeo", "copy", "--quiet", "--insecure-policy", "--src-creds=user:secret", &name]);
        let skopeo = skopeo.arg(format!("oci:{}:big", in_dir("copy")));
        let mut curl = env().args(&["curl", "--silent", "--fail", "--user", "user:secret"]);
        for layer in &layers {
            curl = curl.args(&["--output", "/dev/null"]);
            curl = curl.arg(format!("https://{HOST}:5000/v2/team/big/blobs/{layer}"));
        }
        let blobs =
            layers.iter().map(|layer| in_dir(&format!("{packing}/blobs/{}", layer.replace(':', "/"))));
        let unpack = blobs.map(|blob| format!("tar --{packing} -xf {blob} && ")).collect::<String>();
        let tar = shell(&format!("cd {} && {unpack}sync -f .", in_dir("out")));

        let title = format!("fetch of a 500 MiB image of five layers, {packing}");
        let [rkt, podman, _, curl, tar] = self.costs(
            &title,
            [
                ("rkt fetch", rkt, fresh("data")),
                ("podman pull", podman, fresh("podman")),
                ("skopeo copy to oci:", skopeo, fresh("copy")),
                ("the layers by curl, to nowhere", curl, String::new()),
                ("the layers by tar, then sync", tar, fresh("out")),
            ],
        );
        must(shell(&format!("cd {} && rm -rf data podman copy out", dir.display())));
        // What it can't do without, as a share of what it takes.
        let share = |cost: Cost| cost.cpu.as_secs_f64() / rkt.cpu.as_secs_f64();
        let (curl, tar, busy) = (share(curl), share(tar), rkt.cpu.as_secs_f64() / rkt.wall.as_secs_f64());
        println!("  for its part, tar takes {tar:.2} of the processor time of rkt, and curl {curl:.2};");
        println!(
            "  rkt has {busy:.2} processors: the rest of the wall time it waits for a free one or the disk"
        );
        self.budget("rkt fetch / podman pull", rkt.wall.as_secs_f64() / podman.wall.as_secs_f64(), 0.5);
        self.budget("peak memory of rkt fetch, MiB", rkt.peak_kib as f64 / 1024.0, 64.0);
    }

    /// As [`Bench::measure_after`], with all that the commands take.
    fn costs<const N: usize>(&self, title: &str, commands: [(&str, Invocation, String); N]) -> [Cost; N] {
        let file = self.dir.join("cost");
        let mut costs = [const { Vec::new() }; N];
        let runs = self.runs.min(MOST_RUNS);
        for round in 0..=runs {
            for ((name, invocation, before), costs) in commands.iter().zip(&mut costs) {
                must(shell(before));
                let time = command("/usr/bin/time", &["--format=%U %S %M", "--output"]).arg(&file);
                let mut time = time.arg(&invocation.program);
                time.args.extend(invocation.args.iter().cloned());
                let wall = time.timed(name);
                if round > 0 {
                    costs.push(read_cost(wall, &file));
                }
            }
        }
        println!("\n{title}; {runs} runs: wall (lowest), processor time in milliseconds, peak in MiB");
        let mut medians = [Cost { wall: Duration::ZERO, cpu: Duration::ZERO, peak_kib: 0 }; N];
        for (((name, ..), costs), median) in commands.iter().zip(&costs).zip(&mut medians) {
            let (wall, lowest) = median_of(costs, |cost| cost.wall);
            let (cpu, _) = median_of(costs, |cost| cost.cpu);
            let (peak_kib, _) = median_of(costs, |cost| cost.peak_kib);
            *median = Cost { wall, cpu, peak_kib };
            println!(
                "  {name:<32} {:>9.1} ({:.1}) {:>9.1} {:>7.1}",
                milliseconds(wall),
                milliseconds(lowest),
                milliseconds(cpu),
                peak_kib as f64 / 1024.0
            );
        }
        medians
    }
}

/// The median and the lowest.
fn median_of<T: Ord + Copy>(costs: &[Cost], of: impl Fn(&Cost) -> T) -> (T, T) {
    let mut values: Vec<T> = costs.iter().map(of).collect();
    values.sort_unstable();
    (values[values.len() / 2], values[0])
}

fn read_cost(wall: Duration, file: &Path) -> Cost {
    let text = fs::read_to_string(file).expect("a line of time(1)");
    let words: Vec<&str> = text.split_whitespace().collect();
    let seconds = |word: &str| Duration::from_secs_f64(word.parse().expect("a number of time(1)"));
    let [user, system, peak] = words[..] else { panic!("not of time(1): {text}") };
    Cost { wall, cpu: seconds(user) + seconds(system), peak_kib: peak.parse().expect("a number of time(1)") }
}

/// The digests of the layers of the only image in a layout.
fn layers(layout: &Path) -> Vec<String> {
    let read = |path: &str| -> Value {
        serde_json::from_slice(&fs::read(layout.join(path)).expect("a file of the layout")).expect("JSON")
    };
    let digest = |descriptor: &Value| descriptor["digest"].as_str().expect("text").to_owned();
    let index = read("index.json");
    let manifest = read(&format!("blobs/{}", digest(&index["manifests"][0]).replace(':', "/")));
    manifest["layers"].as_array().expect("a list").iter().map(digest).collect()
}
