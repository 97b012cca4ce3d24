//! What must be true after a command has died, failed or succeeded, whatever it was doing.
//!
//! * P1: exit status 0, or a printed ID or UUID, means that the object is there and whole.
//! * P2: nothing half done is listed; the same command works when it is run again.
//! * P3: `list`, `image list` and `status` exit with 0 and show what was healthy before.
//! * P4: `gc --grace-period=0s` twice and `image gc` bring the host back to its first state; of keys, nothing is left but
//!   those that are trusted.
//!
//! A command that died after its last rename and before it printed has done its work: what it made may be listed if it
//! is whole. A pod whose preparation was killed is listed as `aborted prepare` (spec cli.md 1.2.4).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::disk::{Disk, HOME};
use crate::host::{HostState, walk};
use crate::site;
use crate::trace::{Blow, End};
use crate::verb::{Effect, GREETING, Kept, Objects, Owner, Source, Start, Verb, export_file, rkt, uuid_file};

/// The directories that a data directory consists of.
const FIXED: &[&str] = &[
    "cas",
    "cas/image",
    "cas/tmp",
    "cas/layer",
    "cas/tree",
    "cas/url",
    "filters",
    "filters/0000000000000000",
    "pods",
    "pods/embryo",
    "pods/prepare",
    "pods/prepared",
    "pods/run",
    "pods/exited-garbage",
    "pods/garbage",
];

/// What is known before any point of a verb is tried.
pub(crate) struct Oracle<'a> {
    verb: &'a Verb,
    objects: &'a Objects,
    host: &'a HostState,
    /// Files of healthy objects, by their directory.
    healthy: BTreeMap<String, String>,
    /// Files of the trees that are damaged before, by their name.
    damaged: BTreeMap<String, String>,
    /// Files of the trees that the verb makes, by their name.
    trees: BTreeMap<String, String>,
    /// Layers that the verb brings, by their name.
    layers: BTreeMap<String, String>,
    /// A line for each file of the keys that are trusted before and after, and for each directory.
    keys: BTreeSet<String>,
    /// The line of the file that the verb exports to.
    export: Option<String>,
}

/// How a command came to its end, and what it said.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What was done to it.
    pub(crate) blow: Option<Blow>,
    /// Its end.
    pub(crate) end: End,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
}

impl Outcome {
    fn succeeded(&self) -> bool {
        self.end == End::Exit(0)
    }

    fn was_killed(&self) -> bool {
        matches!(self.blow, Some(Blow::Kill | Blow::PowerCut(_)))
    }

    /// The images that it says it has removed.
    fn removed(&self) -> impl Iterator<Item = &str> {
        let whole = self.stdout.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        whole
            .filter_map(|line| line.strip_prefix("successfully removed aci for image: \"")?.strip_suffix('"'))
    }

    /// The last whole line.
    fn printed(&self) -> Option<&str> {
        let whole = &self.stdout[..self.stdout.rfind('\n')?];
        whole.lines().last()
    }
}

/// A pod as `rkt list` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    uuid: String,
    state: String,
}

impl<'a> Oracle<'a> {
    /// Looks at the data directory as it is before the verb.
    pub(crate) fn new(verb: &'a Verb, objects: &'a Objects, host: &'a HostState) -> Self {
        let mut healthy = BTreeMap::new();
        if verb.start != Start::Nothing {
            for dir in healthy_dirs(verb, objects) {
                healthy.insert(dir.clone(), fingerprint(&Disk::top().join(dir)));
            }
        }
        let damaged = if verb.start == Start::Damaged { trees() } else { BTreeMap::new() };
        Self {
            verb,
            objects,
            host,
            healthy,
            damaged,
            trees: BTreeMap::new(),
            layers: BTreeMap::new(),
            keys: keys(),
            export: None,
        }
    }

    /// Takes what is there after an undisturbed run for right.
    pub(crate) fn learn(&mut self) {
        self.trees = trees();
        self.layers = layers();
        self.keys.extend(keys());
        self.export = exported();
    }

    /// Says which promises are broken. The data directory is used up by that.
    pub(crate) fn violations(&self, outcome: &Outcome) -> Vec<String> {
        let mut bad = Vec::new();
        self.end(outcome, &mut bad);
        let pods = self.list(outcome, &mut bad);
        let images = self.image_list(&mut bad);
        self.healthy(&pods, &images, &mut bad);
        for (name, found) in trees().into_iter().chain(layers()) {
            let right = self.trees.get(&name).or(self.layers.get(&name));
            let is_as_before = self.damaged.get(&name) == Some(&found);
            if let Some(right) = right.filter(|right| **right != found && !is_as_before) {
                bad.push(format!("P2: {name} is not whole:\n{}", difference(right, &found)));
            }
        }
        self.half_done_files(&mut bad);
        self.extra_images(&images, &mut bad);
        self.extra_pods(outcome, &pods, &mut bad);
        self.promised(outcome, &pods, &images, &mut bad);
        self.again(&pods, &images, &mut bad);
        self.first_state(&mut bad);
        bad
    }

    /// Keys and exported files are there whole or not at all.
    fn half_done_files(&self, bad: &mut Vec<String>) {
        for line in keys().iter().filter(|line| !self.keys.contains(*line) && !line.contains(".tmp-")) {
            bad.push(format!("P2: a key that is not whole: {line}"));
        }
        let exported = exported();
        if exported.is_some() && exported != self.export {
            bad.push(format!("P2: the exported file is not whole: {exported:?}"));
        }
    }

    fn end(&self, outcome: &Outcome, bad: &mut Vec<String>) {
        let refused = matches!(outcome.blow, Some(Blow::Refuse(_)));
        match outcome.end {
            End::Exit(0) => {}
            End::Signal(libc::SIGKILL) if outcome.was_killed() => {}
            End::Exit(code) if refused && code != 101 => {
                let named = outcome.stderr.lines().any(|line| line.contains(": "));
                if !named {
                    bad.push(format!("end: it failed with {code} and no message: {:?}", outcome.stderr));
                }
            }
            end => bad.push(format!("end: {end:?}: {}", outcome.stderr)),
        }
        // Of what is refused one call only, nothing can stay.
        if refused && outcome.stderr.contains("it is a mount point") {
            bad.push(format!("end: it met its own mount: {}", outcome.stderr));
        }
        if outcome.stderr.contains("panicked") {
            bad.push(format!("end: a panic: {}", outcome.stderr));
        }
    }

    fn list(&self, outcome: &Outcome, bad: &mut Vec<String>) -> Vec<Listed> {
        let (mut output, mut pods) = list();
        // The processes of a pod outlive their supervisor for a moment.
        for pod in pods.iter().flatten().filter(|pod| pod.state == "running") {
            end_of(&["status", "--wait=10s", &pod.uuid]);
        }
        if pods.iter().flatten().any(|pod| pod.state == "running") {
            (output, pods) = list();
        }
        let Some(pods) = pods else {
            bad.push(format!("P3: list: {}", told(&output)));
            return Vec::new();
        };
        for pod in &pods {
            let output = end_of(&["status", &pod.uuid]);
            if !output.status.success() {
                bad.push(format!("P3: status of a listed pod: {}", told(&output)));
            }
        }
        let aborted = pods.iter().any(|pod| pod.state == "aborted prepare");
        if !output.stderr.is_empty()
            && !(aborted && (outcome.was_killed() || self.verb.start != Start::Nothing))
        {
            bad.push(format!("P2: list shows something broken: {}", told(&output)));
        }
        pods
    }

    fn image_list(&self, bad: &mut Vec<String>) -> Vec<String> {
        let output = end_of(&["image", "list", "--format=json"]);
        let Some(images) = json(&output) else {
            bad.push(format!("P3: image list: {}", told(&output)));
            return Vec::new();
        };
        if !output.stderr.is_empty() {
            bad.push(format!("P2: image list shows something broken: {}", told(&output)));
        }
        images.iter().filter_map(|image| image["id"].as_str().map(str::to_owned)).collect()
    }

    /// Those that the verb does not touch are listed as before, and have the same files.
    fn healthy(&self, pods: &[Listed], images: &[String], bad: &mut Vec<String>) {
        for (dir, before) in &self.healthy {
            let name = dir.rsplit('/').next().unwrap_or_default();
            let listed = match dir.split('/').nth(2) {
                Some("image") => images.iter().any(|image| image == name),
                Some("prepared") => is_listed(pods, name, "prepared"),
                Some("run") => is_listed(pods, name, "exited"),
                Some("exited-garbage") => is_listed(pods, name, "exited garbage"),
                // Layers and keys, which nothing lists.
                _ => true,
            };
            if !listed {
                bad.push(format!("P3: {dir} is not listed as before"));
            }
            let now = fingerprint(&Disk::top().join(dir));
            if now != *before {
                bad.push(format!("P1: {dir} is not as before:\n{}", difference(before, &now)));
            }
        }
    }

    fn extra_images(&self, images: &[String], bad: &mut Vec<String>) {
        let objects = self.objects;
        let known = [&objects.hello, &objects.other, &objects.signed, &objects.layered];
        for image in images.iter().filter(|image| !known.contains(image)) {
            self.whole_image(image, "P2", bad);
        }
    }

    /// An image is whole when `image verify` says so, and its bytes have the hash that its name says.
    fn whole_image(&self, id: &str, promise: &str, bad: &mut Vec<String>) {
        let output = end_of(&["image", "verify", id]);
        if !output.status.success() {
            bad.push(format!("{promise}: image {id} is not whole: {}", told(&output)));
        }
        // The ID of layers is the hash of their configuration, from which they are hashed on.
        if self.verb.effect != Effect::Fetches(Source::Registry) {
            whole_bytes(id, promise, bad);
        }
    }

    fn extra_pods(&self, outcome: &Outcome, pods: &[Listed], bad: &mut Vec<String>) {
        let known = [
            &self.objects.prepared,
            &self.objects.waiting,
            &self.objects.exited,
            &self.objects.marked,
            // As the template has it.
            &"00000002-0000-4000-8000-000000000000".to_owned(),
        ];
        for pod in pods.iter().filter(|pod| !known.contains(&&pod.uuid)) {
            let failed = !outcome.succeeded() && !outcome.was_killed();
            match (pod.state.as_str(), self.verb.effect) {
                _ if failed => bad.push(format!("P2: the command failed, and left {pod:?}")),
                ("aborted prepare", _) if outcome.was_killed() => {}
                ("prepared", Effect::Prepares(_)) => whole_pod(&pod.uuid, "P2", bad),
                ("exited", Effect::Runs { .. }) => {
                    let output = end_of(&["cat-manifest", &pod.uuid]);
                    if !output.status.success() {
                        bad.push(format!("P2: an exited pod that has no manifest: {}", told(&output)));
                    }
                }
                _ => bad.push(format!("P2: half done and listed: {pod:?}")),
            }
        }
    }

    /// What the command said that it had done.
    fn promised(&self, outcome: &Outcome, pods: &[Listed], images: &[String], bad: &mut Vec<String>) {
        let printed = outcome.printed().filter(|line| match self.verb.effect {
            // It has more to say when it meets a key.
            Effect::Fetches(_) => line.starts_with("sha512-"),
            Effect::Trusts(_) => line.starts_with("Added key "),
            _ => true,
        });
        let done = outcome.succeeded() || printed.is_some();
        let objects = self.objects;
        let pod_is_gone = |uuid: &str| !pods.iter().any(|pod| pod.uuid == uuid);
        match self.verb.effect {
            Effect::Fetches(_) if done => match printed {
                Some(id) if images.iter().any(|image| image == id) => self.whole_image(id, "P1", bad),
                printed => bad.push(format!("P1: it said {printed:?}, and image list {images:?}")),
            },
            Effect::Prepares(_) if done => match printed {
                // That it runs has been seen above.
                Some(uuid) if is_listed(pods, uuid, "prepared") => {}
                printed => bad.push(format!("P1: it said {printed:?}, and list {pods:?}")),
            },
            Effect::Runs { .. } if outcome.succeeded() => {
                if !outcome.stdout.contains(GREETING) {
                    bad.push(format!("P1: the app said {:?}", outcome.stdout));
                }
                let uuid = fs::read_to_string(uuid_file()).unwrap_or_default();
                if !is_listed(pods, uuid.trim(), "exited") {
                    bad.push(format!("P1: it ran as {uuid:?}, and list {pods:?}"));
                }
            }
            Effect::Runs { .. } if !outcome.was_killed() && uuid_file().exists() => {
                bad.push("P2: the command failed, and left the file with the pod's UUID".to_owned());
            }
            Effect::RunsPrepared => {
                let ran = is_listed(pods, &objects.prepared, "exited");
                if outcome.succeeded() && !(ran && outcome.stdout.contains(GREETING)) {
                    bad.push(format!("P1: it ran, said {:?}, and list {pods:?}", outcome.stdout));
                }
                let may_have_run = ran && (outcome.succeeded() || outcome.was_killed());
                if !may_have_run && !is_listed(pods, &objects.prepared, "prepared") {
                    bad.push(format!("P1: the prepared pod is neither prepared nor exited: {pods:?}"));
                }
            }
            Effect::RemovesPod if done && !pod_is_gone(&objects.exited) => {
                bad.push(format!("P1: the pod was removed, and list {pods:?}"));
            }
            Effect::CollectsPods
                if outcome.succeeded()
                    && outcome.blow.is_none()
                    && !(pod_is_gone(&objects.exited) && pod_is_gone(&objects.marked)) =>
            {
                bad.push(format!("P1: pods were collected, and list {pods:?}"));
            }
            Effect::RemovesImage(_) if outcome.succeeded() && outcome.removed().next().is_none() => {
                bad.push(format!("P1: it said {:?}", outcome.stdout));
            }
            Effect::RemovesImage(_) | Effect::CollectsImages
                if outcome.removed().any(|id| images.iter().any(|image| image == id)) =>
            {
                bad.push(format!("P1: it said {:?}, and image list {images:?}", outcome.stdout));
            }
            // What prepared pods stand on stays.
            Effect::CollectsImages if outcome.succeeded() && images != [objects.hello.clone()] => {
                bad.push(format!("P1: images were collected, and image list {images:?}"));
            }
            Effect::Trusts(owner) if done => {
                if !self.keys.is_subset(&keys()) {
                    bad.push("P1: the key is not there as it was added".to_owned());
                }
                // That it is read shows where it makes a signature good.
                if owner == Owner::Publisher {
                    let output = end_of(&["fetch", site::NEW_PUBLISHERS]);
                    if !output.status.success() {
                        bad.push(format!("P1: the key is not trusted: {}", told(&output)));
                    }
                }
            }
            Effect::RepairsTree(_) if outcome.succeeded() && trees() != self.trees => {
                bad.push("P1: it was repaired, and is not whole".to_owned());
            }
            Effect::ExportsPod if outcome.succeeded() && exported() != self.export => {
                bad.push(format!("P1: it was exported, and is {:?}", exported()));
            }
            _ => {}
        }
    }

    fn again(&self, pods: &[Listed], images: &[String], bad: &mut Vec<String>) {
        let objects = self.objects;
        let still = match self.verb.effect {
            Effect::RemovesPod => pods.iter().any(|pod| pod.uuid == objects.exited),
            Effect::RemovesImage(kept) => images.iter().any(|image| image == objects.image(kept)),
            Effect::RunsPrepared => is_listed(pods, &objects.prepared, "prepared"),
            _ => true,
        };
        if !still {
            return;
        }
        let args = self.verb.args(objects);
        let output = end_of(&args);
        let stdout = String::from_utf8_lossy(&output.stdout);
        let says = match self.verb.effect {
            Effect::Fetches(_) => "sha512-",
            Effect::Trusts(_) => "Added key ",
            Effect::Runs { .. } | Effect::RunsPrepared => GREETING,
            Effect::RemovesPod => objects.exited.as_str(),
            _ => "",
        };
        if !output.status.success() || !stdout.contains(says) {
            bad.push(format!("P2: the same command again: {}", told(&output)));
        }
        let (trees, layers, keys) = (trees(), layers(), keys());
        for (name, right) in self.trees.iter().chain(&self.layers) {
            let now = trees.get(name).or(layers.get(name)).map_or("", String::as_str);
            if now != right {
                bad.push(format!(
                    "P2: {name} is not whole after the same command:\n{}",
                    difference(right, now)
                ));
            }
        }
        for line in self.keys.iter().filter(|line| !keys.contains(*line)) {
            bad.push(format!("P2: a key is not there after the same command: {line}"));
        }
        if self.verb.effect == Effect::ExportsPod && exported() != self.export {
            bad.push("P2: the exported file is not whole after the same command".to_owned());
        }
    }

    fn first_state(&self, bad: &mut Vec<String>) {
        let gc = ["gc", "--grace-period=0s", "--expire-prepared=0s"];
        for args in [&gc[..], &gc[..], &["image", "gc", "--grace-period=0s"][..]] {
            let output = end_of(args);
            if !output.status.success() || String::from_utf8_lossy(&output.stderr).contains("error") {
                bad.push(format!("P4: {args:?}: {}", told(&output)));
            }
        }
        let data = Disk::data();
        walk(&data, true, &mut |path| {
            let below = Path::new(path).strip_prefix(&data).expect("walk stays below");
            if !FIXED.iter().any(|fixed| Path::new(fixed) == below) {
                bad.push(format!("P4: left in the data directory: {}", below.display()));
            }
        });
        walk(&Path::new(HOME).join("user"), true, &mut |path| {
            if !path.ends_with(".aci") && !path.ends_with(".asc") && Path::new(path) != uuid_file() {
                bad.push(format!("P4: left beside the user's files: {path}"));
                fs::remove_file(path).expect("a file of ours");
            }
        });
        for line in keys().iter().filter(|line| !self.keys.contains(*line)) {
            bad.push(format!("P4: left among the keys: {line}"));
        }
        if let Some(exports) = export_file().parent() {
            walk(exports, true, &mut |path| {
                if Path::new(path) != export_file() {
                    bad.push(format!("P4: left beside the exported file: {path}"));
                }
            });
        }
        let left = self.host.left_now();
        bad.extend(left.iter().map(|line| format!("P4: left on the host: {line}")));
        // Told once, not at every point that follows.
        self.host.accept(left);
    }
}

/// Directories of objects that the verb has nothing to do with.
fn healthy_dirs(verb: &Verb, objects: &Objects) -> Vec<String> {
    let mut dirs = vec![
        format!("data/cas/image/{}", objects.hello),
        format!("data/cas/image/{}", objects.other),
        format!("data/cas/image/{}", objects.signed),
        format!("data/cas/image/{}", objects.layered),
        format!("data/pods/prepared/{}", objects.prepared),
        format!("data/pods/prepared/{}", objects.waiting),
        format!("data/pods/run/{}", objects.exited),
        format!("data/pods/exited-garbage/{}", objects.marked),
        format!("config/trustedkeys/prefix.d/{}", site::PREFIX),
    ];
    let mut touched: Vec<&str> = match verb.effect {
        Effect::Fetches(_)
        | Effect::Prepares(_)
        | Effect::Runs { .. }
        | Effect::ExportsPod
        | Effect::Trusts(_)
        | Effect::RepairsTree(_) => vec![],
        Effect::RunsPrepared => vec![&objects.prepared],
        Effect::RemovesPod => vec![&objects.exited],
        Effect::CollectsPods => vec![&objects.exited, &objects.marked],
        Effect::RemovesImage(kept) => vec![objects.image(kept)],
        Effect::CollectsImages => {
            vec![&objects.other, &objects.signed, &objects.layered]
        }
    };
    if verb.start == Start::Joined {
        touched.push(&objects.prepared);
    }
    dirs.retain(|dir| !touched.iter().any(|name| dir.ends_with(name)));
    if !matches!(verb.effect, Effect::RemovesImage(Kept::Layered) | Effect::CollectsImages) {
        dirs.extend(layers().into_keys().map(|name| format!("data/cas/layer/{name}")));
    }
    dirs
}

/// What `list` says, if it did not fail.
fn list() -> (Output, Option<Vec<Listed>>) {
    let output = end_of(&["list", "--format=json"]);
    let text = |pod: &Value, key: &str| pod[key].as_str().unwrap_or_default().to_owned();
    let pods = json(&output).map(|pods| {
        pods.iter().map(|pod| Listed { uuid: text(pod, "name"), state: text(pod, "state") }).collect()
    });
    (output, pods)
}

fn is_listed(pods: &[Listed], uuid: &str, state: &str) -> bool {
    pods.iter().any(|pod| pod.uuid == uuid && pod.state == state)
}

fn whole_bytes(id: &str, promise: &str, bad: &mut Vec<String>) {
    let file = Path::new(HOME).join("exported");
    let output = end_of(&["image", "export", "--overwrite", id, &file.display().to_string()]);
    let sum = Command::new("sha512sum").arg(&file).output().expect("sha512sum");
    let sum = format!("sha512-{}", String::from_utf8_lossy(&sum.stdout));
    let _gone = fs::remove_file(&file);
    if !output.status.success() || !sum.starts_with(id) {
        bad.push(format!("{promise}: image {id} is not whole: {}", told(&output)));
    }
}

/// A prepared pod is whole when it runs.
fn whole_pod(uuid: &str, promise: &str, bad: &mut Vec<String>) {
    let output = end_of(&["run-prepared", "--net=none", uuid]);
    if !output.status.success() || !String::from_utf8_lossy(&output.stdout).contains(GREETING) {
        bad.push(format!("{promise}: pod {uuid} is not whole: {}", told(&output)));
    }
}

/// Runs rkt, which is ended if it hangs.
fn end_of(args: &[impl AsRef<std::ffi::OsStr>]) -> Output {
    let rkt = rkt(args);
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "60"]).arg(rkt.get_program()).args(rkt.get_args());
    command.envs(rkt.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(std::process::Stdio::null()).current_dir(HOME).output().expect("timeout")
}

fn told(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
    format!("{}, stdout {:?}, stderr {:?}", output.status, text(&output.stdout), text(&output.stderr))
}

/// The list that a command printed; `None` when it failed. No object at all is `null` to rkt.
fn json(output: &Output) -> Option<Vec<Value>> {
    match serde_json::from_slice(&output.stdout) {
        Ok(Value::Array(list)) if output.status.success() => Some(list),
        Ok(Value::Null) if output.status.success() => Some(Vec::new()),
        _ => None,
    }
}

fn trees() -> BTreeMap<String, String> {
    let mut trees = objects_in("cas/tree");
    trees.retain(|name, _| ["deps-", "layer-", "chain-"].iter().any(|start| name.starts_with(start)));
    for files in trees.values_mut() {
        // It has the times of directories that a layer makes and says nothing of: those are when it was unpacked.
        let content = files.lines().filter(|line| !line.starts_with("seal "));
        *files = content.collect::<Vec<_>>().join("\n");
    }
    trees
}

fn layers() -> BTreeMap<String, String> {
    objects_in("cas/layer")
}

/// The files of each object in a directory, by its name.
fn objects_in(dir: &str) -> BTreeMap<String, String> {
    let entries = fs::read_dir(Disk::data().join(dir)).into_iter().flatten().flatten();
    let named = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries.map(|entry| (named(&entry), fingerprint(&entry.path()))).collect()
}

/// The file that a verb exports to, if it is there.
fn exported() -> Option<String> {
    file_line(&export_file())
}

/// A line for each file and directory of the trusted keys.
fn keys() -> BTreeSet<String> {
    fingerprint(&Disk::config()).lines().map(str::to_owned).collect()
}

/// A line for each file below `dir`, with all that matters of it.
fn fingerprint(dir: &Path) -> String {
    let mut lines = Vec::new();
    walk(dir, true, &mut |path| {
        let path = Path::new(path);
        let name = path.strip_prefix(dir).unwrap_or(path).display();
        lines.extend(file_line(path).map(|line| format!("{name} {line}")));
    });
    lines.sort();
    lines.join("\n")
}

/// All that matters of a file, which may be gone.
fn file_line(path: &Path) -> Option<String> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let found = fs::symlink_metadata(path).ok()?;
    let content = if found.is_symlink() {
        fs::read_link(path).map(|link| link.display().to_string()).unwrap_or_default()
    } else if found.is_file() {
        let mut hasher = DefaultHasher::new();
        fs::read(path).unwrap_or_default().hash(&mut hasher);
        format!("{} bytes, {:016x}", found.len(), hasher.finish())
    } else {
        String::new()
    };
    let (uid, gid, mode) = (found.uid(), found.gid(), found.permissions().mode());
    Some(format!("{mode:o} {uid}:{gid} {content}"))
}

fn difference(before: &str, now: &str) -> String {
    let lacks = before
        .lines()
        .filter(|line| !now.lines().any(|other| other == *line))
        .map(|line| format!("  - {line}"));
    let has = now
        .lines()
        .filter(|line| !before.lines().any(|other| other == *line))
        .map(|line| format!("  + {line}"));
    lacks.chain(has).take(10).collect::<Vec<_>>().join("\n")
}
