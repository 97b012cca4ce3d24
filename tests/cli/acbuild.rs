//! `acbuild` as a program: its words, its messages, the manifest that it keeps.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::support::{Run, run::Ended};
use crate::world::World;

/// A directory to build in.
pub(crate) struct Site {
    world: World,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self { world: World::new() }
    }

    /// A directory with a build in it.
    pub(crate) fn begun() -> Self {
        let site = Self::new();
        site.ok("begin");
        site
    }

    pub(crate) fn path(&self, inside: &str) -> std::path::PathBuf {
        self.world.path().join(inside)
    }

    pub(crate) fn file(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("below the site")).expect("our own directory");
        fs::write(path, content).expect("our own file");
    }

    pub(crate) fn acbuild(&self, line: &str) -> Run {
        let words = line.split(' ').filter(|word| !word.is_empty());
        Run::acbuild().args(words).env_clear().current_dir(self.world.path())
    }

    pub(crate) fn run(&self, line: &str) -> Ended {
        self.acbuild(line).end()
    }

    /// Runs a command that has nothing to say.
    pub(crate) fn ok(&self, line: &str) {
        let notice = "begin: notice: not running as root: superuser rights avoid permission problems\n";
        let is_begin = line.starts_with("begin") && !rustix::process::geteuid().is_root();
        self.run(line).expect(0, "", if is_begin { notice } else { "" });
    }

    /// Runs a command that fails with this on stderr.
    pub(crate) fn fails(&self, line: &str, stderr: &str) {
        self.run(line).expect(1, "", stderr);
    }

    /// Runs a command of the system here.
    pub(crate) fn sh(&self, script: &str) -> String {
        Run::new("sh").args(["-euc", script]).current_dir(self.world.path()).stdout()
    }

    pub(crate) fn manifest(&self) -> Value {
        serde_json::from_str(&self.acbuild("cat-manifest").stdout()).expect("JSON")
    }

    /// What is in the directory of the state.
    pub(crate) fn state(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(".acbuild")) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }
}

#[test]
fn an_empty_build_has_a_skeleton_and_private_state() {
    let site = Site::begun();
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        arch => arch,
    };
    let skeleton = format!(
        concat!(
            r#"{{"acKind":"ImageManifest","acVersion":"0.8.11","name":"acbuild-unnamed","labels":"#,
            r#"[{{"name":"arch","value":"{}"}},{{"name":"os","value":"linux"}}]}}"#
        ),
        arch
    );
    site.run("cat-manifest").expect(0, &format!("{skeleton}\n"), "");
    let pretty = site.acbuild("cat-manifest --pretty-print").stdout();
    assert!(pretty.starts_with("{\n    \"acKind\": \"ImageManifest\",\n"), "{pretty}");
    site.fails("cat-manifest --file config", "cat-manifest: can't print config, appc has no image configs\n");
    assert_eq!(site.state(), ["buildMode", "currentaci"]);
    let mode = |path: &str| fs::metadata(site.path(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!([mode(".acbuild"), mode(".acbuild/currentaci/rootfs")], [0o700, 0o755]);
    assert_eq!(fs::read_to_string(site.path(".acbuild/buildMode")).unwrap(), "appc");
    site.ok("end");
    assert_eq!(site.sh("ls -A"), "");
}

#[test]
fn without_a_build_nothing_but_begin_works() {
    let site = Site::new();
    for line in ["end", "cat-manifest", "set-name a", "copy a /a", "copy-to-dir a /", "write a.aci"] {
        let command = line.split(' ').next().unwrap();
        site.fails(
            line,
            &format!("{command}: no build in progress in this working dir - try \"acbuild begin\"\n"),
        );
    }
    assert_eq!(site.sh("ls -A"), "");
    site.ok("begin");
    site.fails(
        "begin",
        "begin: build already in progress in this working dir\n\
         begin: hint: end it with `acbuild end`, which discards what was not written\n",
    );
    assert_eq!(site.state(), ["buildMode", "currentaci"]);
}

#[test]
fn a_link_is_no_state() {
    let site = Site::new();
    fs::create_dir(site.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", site.path(".acbuild")).unwrap();
    for command in ["begin", "cat-manifest", "end"] {
        site.fails(command, &format!("{command}: .acbuild is not a directory\n"));
    }
    assert_eq!(site.sh("ls -A elsewhere"), "");
}

#[test]
fn one_command_at_a_time() {
    let site = Site::begun();
    let lock = fs::File::create(site.path(".acbuild/lock")).unwrap();
    lock.lock().unwrap();
    for command in ["cat-manifest", "end"] {
        let text = "lock already held - is another acbuild running in this working dir?";
        site.fails(command, &format!("{command}: {text}\n"));
    }
    drop(lock);
    // What a killed command leaves is in nobody's way.
    fs::create_dir(site.path(".acbuild/.tmp-left")).unwrap();
    site.ok("set-name a");
    assert_eq!(site.state(), ["buildMode", "currentaci"]);
}

#[test]
fn the_work_path_is_where_the_state_is() {
    let site = Site::new();
    fs::create_dir(site.path("there")).unwrap();
    site.ok("--work-path there begin");
    site.ok("set-name --work-path=there a");
    assert_eq!(site.sh("ls -A; ls -A there"), "there\n.acbuild\n");
    site.fails("--work-path=nowhere begin", "begin: no such file or directory: nowhere\n");
}

#[test]
fn every_command_changes_the_manifest() {
    let site = Site::begun();
    for line in [
        "set-name example.com/a",
        "set-tag 1.0",
        "set-exec -- /bin/a -x --y",
        "set-user www",
        "set-group 33",
        "set-supp-groups 1 2",
        "set-wd /srv",
        "env add A 1",
        "environment add B 2",
        "environment add A 3",
        "environment add C 4",
        "environment rm C",
        "label add os linux",
        "label add x y",
        "label rm x",
        "annotation add authors me",
        "annotation add authors you",
        "annotation add gone x",
        "annotation remove gone",
        "port add http tcp 80",
        "port add range udp 1000 --count 5 --socket-activated",
        "port add http tcp 8080",
        "port add gone tcp 81",
        "port remove 81",
        "mount add data /data --read-only",
        "mount add other /other",
        "volume add moved /other",
        "mount add gone /gone",
        "mount rm /gone",
    ] {
        site.ok(&format!("--no-history {line}"));
    }
    let arch = site.manifest()["labels"][0]["value"].clone();
    assert_eq!(
        site.manifest(),
        json!({
            "acKind": "ImageManifest",
            "acVersion": "0.8.11",
            "name": "example.com/a",
            "labels": [
                {"name": "arch", "value": arch},
                {"name": "version", "value": "1.0"},
                {"name": "os", "value": "linux"},
            ],
            "app": {
                "exec": ["/bin/a", "-x", "--y"],
                "user": "www",
                "group": "33",
                "supplementaryGIDs": [1, 2],
                "workingDirectory": "/srv",
                "environment": [{"name": "A", "value": "3"}, {"name": "B", "value": "2"}],
                "mountPoints": [
                    {"name": "data", "path": "/data", "readOnly": true},
                    {"name": "moved", "path": "/other"},
                ],
                "ports": [
                    {"name": "range", "protocol": "udp", "port": 1000, "count": 5, "socketActivated": true},
                    {"name": "http", "protocol": "tcp", "port": 8080, "count": 1, "socketActivated": false},
                ],
            },
            "annotations": [{"name": "authors", "value": "you"}],
        })
    );
}

#[test]
fn what_is_not_there_cannot_be_removed() {
    let site = Site::begun();
    for (line, with_app) in [
        ("annotation remove x", false),
        ("environment remove X", false),
        ("label remove x", false),
        ("mount remove x", false),
        ("port remove x", false),
        ("environment remove X", true),
        ("mount remove /x", true),
        ("port remove 1", true),
    ] {
        if with_app {
            site.ok("set-user 1");
        }
        let command = line.rsplit_once(' ').unwrap().0;
        let text = "element to be removed does not exist in this ACI";
        site.run(line).expect(2, "", &format!("{command}: {text}\n"));
    }
    assert_eq!(site.manifest()["app"], json!({"user": "1", "group": "0"}));
}

#[test]
fn a_change_that_breaks_a_rule_leaves_the_old_manifest() {
    let site = Site::begun();
    site.ok("set-name a");
    let before = site.manifest();
    let identifier = "hint: an AC identifier looks like example.com/my-app_2";
    for (line, stderr) in [
        (
            "set-name A",
            format!(
                "\"A\" is not an AC identifier: only lower-case letters, digits and the characters \"-._~/\" are allowed\n\
                 set-name: {identifier}"
            ),
        ),
        (
            "label add -- -a b",
            format!(
                "\"-a\" is not an AC identifier: it must begin and end with a lower-case letter or a digit\n\
                 label add: {identifier}"
            ),
        ),
        ("label add name b", "manifest: labels[2]: invalid label name: \"name\"".into()),
        ("label add os plan9", "manifest: labels: bad os \"plan9\" (must be one of: [darwin freebsd linux])".into()),
        (
            "annotation add created yesterday",
            "manifest: annotations[1].value: created must be an RFC 3339 time such as 2026-01-31T12:00:00Z, not \
             \"yesterday\""
                .into(),
        ),
        (
            "environment add 1x y",
            "manifest: app.environment[0].name: \"1x\" is not the name of a variable: it must begin with a letter or \
             \"_\""
                .into(),
        ),
        ("set-working-directory a/b", "manifest: app.workingDirectory: must be an absolute path, not \"a/b\"".into()),
        ("set-supp-groups 1 x", "\"x\" is not a number between 0 and 4294967294".into()),
        ("set-supp-groups 4294967295", "manifest: app.supplementaryGIDs: 4294967295 is not a group".into()),
        ("port add a tcp 65536", "port must be a positive number between 0 and 65535".into()),
    ] {
        let words: Vec<_> = line.split(' ').collect();
        let command = if words[1] == "add" { words[..2].join(" ") } else { words[0].to_owned() };
        site.fails(line, &format!("{command}: {stderr}\n"));
        assert_eq!(site.manifest(), before, "{line}");
    }
    for (command, what) in [("set-name", "name"), ("set-user", "user"), ("set-group", "group")] {
        let ended = site.acbuild(command).arg("").end();
        ended.expect(1, "", &format!("{command}: {what} cannot be empty\n"));
    }
    site.run("port add a tcp 0").expect_code(1);
    site.run("mount add a --").expect(1, "", "mount add: incorrect number of arguments\n");
    assert_eq!(site.manifest(), before);
}

#[test]
fn an_edited_manifest_is_checked() {
    let site = Site::begun();
    let at = site.path(".acbuild/currentaci/manifest");
    fs::write(&at, "{\"acKind\":").unwrap();
    site.fails(
        "set-name a",
        "set-name: .acbuild/currentaci/manifest: manifest: JSON error at line 1, column 10: EOF while parsing a value\n",
    );
    assert_eq!(fs::read_to_string(&at).unwrap(), "{\"acKind\":");
    fs::remove_file(&at).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &at).unwrap();
    site.fails(
        "set-name a",
        "set-name: reading .acbuild/currentaci/manifest: Too many levels of symbolic links\n",
    );
    site.ok("end");
}

#[test]
fn the_history_is_in_the_annotations() {
    let site = Site::begun();
    site.file("a b", "x");
    site.ok("set-nam a");
    site.acbuild("copy").args(["a b", "/a b"]).end().expect(0, "", "");
    site.ok("set-user 1 --no-history");
    site.ok("set-exec --debug=false -- /x --debug");
    site.ok("mount add --read-only m /m");
    site.run("label rm nothing").expect_code(2);
    let notes: Vec<_> = site.manifest()["annotations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|note| format!("{} {}", note["name"].as_str().unwrap(), note["value"].as_str().unwrap()))
        .collect();
    assert_eq!(
        notes,
        [
            "coreos.com/acbuild/command-1 acbuild set-name \"a\"",
            "coreos.com/acbuild/command-2 acbuild copy \"a b\" \"/a b\"",
            "coreos.com/acbuild/command-3 acbuild set-exec \"/x\" \"--debug\"",
            "coreos.com/acbuild/command-4 acbuild mount add \"m\" \"/m\"",
        ]
    );
}

#[test]
fn debug_tells_the_steps_on_stderr() {
    let site = Site::begun();
    site.run("--debug set-name a").expect(0, "", "set-name: debug: setting the name of the image to a\n");
    site.run("env add A b --debug").expect(
        0,
        "",
        "environment add: debug: setting the environment variable A to \"b\"\n",
    );
}

#[test]
fn words_that_mean_nothing_exit_with_3() {
    let site = Site::new();
    site.run("frobnicate").expect(
        3,
        "",
        "Error: unknown command \"frobnicate\" for \"acbuild\"\nRun 'acbuild --help' for usage.\n",
    );
    site.run("set-nmae a").expect(
        3,
        "",
        "Error: unknown command \"set-nmae\" for \"acbuild\"\n\nDid you mean this?\n\tset-name\n\n\
         Run 'acbuild --help' for usage.\n",
    );
    site.run("label frob").expect(
        3,
        "",
        "Error: unknown command \"frob\" for \"acbuild label\"\nRun 'acbuild label --help' for usage.\n",
    );
    let usage = "USAGE:\n\tacbuild set-name NAME\n\nRun 'acbuild set-name --help' for the options.\n";
    site.run("set-name --frob a").expect(3, "", &format!("Error: unknown flag: --frob\n{usage}"));
    site.run("set-name -x a").expect(3, "", &format!("Error: unknown shorthand flag: 'x' in -x\n{usage}"));
    // Several commands begin like this one.
    site.run("set-").expect_code(3);
}

#[test]
fn a_wrong_number_of_arguments() {
    let site = Site::new();
    for (line, command) in [
        ("set-name a b", "set-name"),
        ("copy a", "copy"),
        ("copy-to-dir a", "copy-to-dir"),
        ("end x", "end"),
        ("version x", "version"),
        ("begin a b", "begin"),
        ("write a b", "write"),
        ("port add a tcp", "port add"),
        ("label rm a b", "label remove"),
    ] {
        site.run(line).expect(1, "", &format!("{command}: incorrect number of arguments\n"));
    }
    for line in ["", "copy", "label", "label add", "set-exec", "write", "set-exec --"] {
        let ended = site.run(line);
        let help = site.run(&format!("{line} --help")).stdout;
        if line != "set-exec --" {
            assert_eq!((ended.code(), &ended.stdout, ended.stderr.as_str()), (1, &help, ""), "{line}");
        }
        ended.expect_code(1);
    }
}

#[test]
fn help_has_its_sections() {
    let site = Site::new();
    let help = concat!(
        "NAME:\n\tmount add - Add a mount point, or replace the one of this name or path\n\n",
        "USAGE:\n\tacbuild mount add [flags] NAME PATH\n\n",
        "EXAMPLE:\n\tacbuild mount add html /srv/www --read-only\n\n",
        "OPTIONS:\n",
        "\t--read-only=false\tThe app only reads there\n",
        "\t--debug=false\t\tTell on stderr what is being done\n",
        "\t-h, --help\t\tPrint help\n",
    );
    for line in ["mount add --help", "help mount add", "volume add -h", "help mou a"] {
        let ended = site.run(line);
        assert!(ended.stdout.starts_with(help), "{}", ended.stdout);
        assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
    }
    let help = site.acbuild("--help").stdout();
    let headings: Vec<_> =
        help.lines().filter(|line| line.ends_with(':') && !line.starts_with('\t')).collect();
    assert_eq!(headings, ["NAME:", "USAGE:", "EXAMPLE:", "COMMANDS:", "OPTIONS:"]);
    assert!(help.contains("\n\tenvironment [add|remove]\t\tManage the environment variables of the app\n"));
    site.run("help nothing").expect(
        3,
        "",
        "Error: unknown command \"nothing\" for \"acbuild\"\nRun 'acbuild --help' for usage.\n",
    );
    site.run("version").expect(
        0,
        &format!("acbuild version {}\nappc version 0.8.11\n", env!("CARGO_PKG_VERSION")),
        "",
    );
}

#[test]
fn what_comes_later_says_so() {
    let site = Site::new();
    for (line, stderr) in [
        ("run -- true", "run: this command"),
        ("layer", "layer: this command"),
        ("script x", "script: this command"),
        ("begin --build-mode oci", "begin: --build-mode=oci"),
        ("begin --insecure ./x", "begin: --insecure"),
        ("cat-manifest --modify-oci=x.aci", "cat-manifest: --modify-oci"),
    ] {
        site.fails(line, &format!("{stderr} is not supported by this version yet\n"));
    }
    site.fails(
        "begin example.com/image",
        "begin: beginning with a remote image such as example.com/image is not supported by this version yet\n\
         begin: hint: the path of a file or directory begins with / or ./\n",
    );
    site.fails("begin --build-mode docker", "begin: invalid build mode: docker\n");
    site.fails("write --sign x.aci", "write: the sign flag has been removed, please invoke gpg directly\n");
    assert_eq!(site.sh("ls -A"), "");
}
