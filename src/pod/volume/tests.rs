//! The order of binding, the rules of reading and writing, and paths behind the links of an image, as tables.

use std::os::unix::fs::symlink;

use super::*;
use crate::appc::pod_manifest::RuntimeImage;
use crate::appc::semver::SemVer;

const ID: &str = "sha512-0105090d1115191d2125292d3135393d4145494d5155595d6165696d7175797d\
                  0105090d1115191d2125292d3135393d4145494d5155595d6165696d7175797d";

fn volumes(flags: &[&str]) -> Vec<Volume> {
    flags.iter().map(|flag| Volume::from_flag(flag).unwrap()).collect()
}

fn mounts(words: &[&str]) -> Vec<Mount> {
    let flag = |word: &&str| word.split_once(' ').map(|(name, path)| format!("volume={name},target={path}"));
    words.iter().map(|word| Mount::from_flag(&flag(word).unwrap()).unwrap()).collect()
}

/// An app whose image has mount points, each `NAME PATH` and perhaps `ro`.
fn app(name: &str, points: &[&str]) -> RuntimeApp {
    let points: Vec<serde_json::Value> = points
        .iter()
        .map(|point| {
            let words: Vec<&str> = point.split(' ').collect();
            serde_json::json!({"name": words[0], "path": words[1], "readOnly": words.len() > 2})
        })
        .collect();
    let app = serde_json::json!({"exec": ["/x"], "user": "0", "group": "0", "mountPoints": points});
    let manifest = serde_json::json!({
        "acKind": "PodManifest", "acVersion": "0.8.11",
        "apps": [{"name": name, "image": {"id": ID}, "app": app}],
    });
    PodManifest::from_json(manifest.to_string().as_bytes()).unwrap().apps.remove(0)
}

fn shown(mounts: &[Mount]) -> Vec<String> {
    mounts.iter().map(|mount| format!("{} {}", mount.volume, mount.path)).collect()
}

#[test]
fn mounts_are_bound_in_the_order_of_the_specification() {
    /// Volumes, own mounts, mounts for all, mount points, result.
    type Row<'a> = [&'a [&'a str]; 5];
    let rows: [Row<'_>; 6] = [
        [&["data,kind=empty"], &[], &[], &["data /d"], &["data /d"]],
        [&[], &[], &[], &["data /d", "logs /l"], &["web-data /d", "web-logs /l"]],
        [
            &["a,kind=empty", "b,kind=empty", "c,kind=empty"],
            &["a /x"],
            &["b /x", "b /y"],
            &["c /x", "c /y", "c /z"],
            &["a /x", "b /y", "c /z"],
        ],
        [&["a,kind=empty"], &["a /x/"], &["a //x", "a x", "a /y/../x"], &["a /x/."], &["a /x/"]],
        [&["web-data,kind=empty"], &[], &[], &["data /d"], &["web-data-2 /d"]],
        [&["a,kind=empty"], &["a /one", "a /two"], &[], &[], &["a /one", "a /two"]],
    ];
    for [pod, own, for_all, points, expected] in rows {
        let (mut app, mut volumes) = (app("web", points), volumes(pod));
        let given = volumes.len();
        let implicit = bind(&mut app, &mounts(&[own, for_all].concat()), &mut volumes, Path::to_owned);
        assert_eq!(shown(&app.mounts), expected);
        let new: Vec<&AcName> = volumes[given..].iter().map(|volume| &volume.name).collect();
        assert_eq!(implicit.iter().map(|one| &one.volume).collect::<Vec<_>>(), new);
    }
}

#[test]
fn a_mount_point_behind_a_link_of_the_image_is_taken_with_the_path_that_it_leads_to() {
    let real = |path: &Path| match path.strip_prefix("/var/run") {
        Ok(rest) => Path::new("/run").join(rest),
        Err(_) => path.to_owned(),
    };
    let mut volumes = volumes(&["a,kind=empty"]);
    let mut app = app("web", &["x /var/run/x", "y /run/y", "z /var/run/y"]);
    bind(&mut app, &mounts(&["a /run/x"]), &mut volumes, real);
    assert_eq!(shown(&app.mounts), ["a /run/x", "web-y /run/y"]);
}

#[test]
fn the_user_is_told_of_a_volume_that_nobody_asked_for() {
    let mut web = app("web", &["data /var/data"]);
    let name = web.name.clone();
    let implicit = bind(&mut web, &[], &mut Vec::new(), Path::to_owned);
    assert_eq!(
        notice(&name, &implicit[0]),
        "warning: no volume specified for mount point \"data\", implicitly creating an \"empty\" volume: \
         \"web-data\" at \"/var/data\" of app \"web\" is removed with the pod"
    );
}

#[test]
fn the_volume_decides_on_writing_and_else_the_mount_point_of_its_name() {
    let rows: [(&str, &str, &[&str], Access, Submounts); 7] = [
        ("data,kind=empty", "data /d", &["data /d"], Access::ReadWrite, Submounts::Included),
        ("data,kind=empty", "data /d", &["data /d ro"], Access::ReadOnly, Submounts::Included),
        ("data,kind=empty", "data /other", &["data /d ro"], Access::ReadOnly, Submounts::Included),
        ("data,kind=empty", "data /d", &["logs /d ro"], Access::ReadWrite, Submounts::Included),
        (
            "data,kind=empty,readOnly=false",
            "data /d",
            &["data /d ro"],
            Access::ReadWrite,
            Submounts::Included,
        ),
        ("data,kind=empty,readOnly=true", "data /d", &["data /d"], Access::ReadOnly, Submounts::Included),
        ("data,kind=host,source=/s,recursive=false", "data /d", &[], Access::ReadWrite, Submounts::Hidden),
    ];
    for (flag, mount, points, access, submounts) in rows {
        let mut volumes = volumes(&[flag]);
        let mut app = app("web", points);
        bind(&mut app, &mounts(&[mount]), &mut volumes, Path::to_owned);
        let manifest = PodManifest { apps: vec![app], volumes, ..PodManifest::new(SemVer::APPC) };
        let found = number(&manifest).unwrap();
        let volume = &found.volumes[found.mounts[0][0].volume];
        assert_eq!((volume.access, volume.submounts), (access, submounts), "{flag} {points:?}");
    }
    let mut web = app("web", &["data /d ro"]);
    let mut volumes = Vec::new();
    bind(&mut web, &[], &mut volumes, Path::to_owned);
    assert_eq!(volumes[0].read_only, Some(true), "an implicit volume is as its mount point");
}

#[test]
fn a_volume_has_one_number_for_each_access() {
    let volumes = volumes(&["data,kind=host,source=/s", "logs,kind=empty"]);
    let mut apps = vec![app("a", &["data /d"]), app("b", &["data /d ro"]), app("c", &["data /d", "logs /l"])];
    for app in &mut apps {
        bind(app, &[], &mut volumes.clone(), Path::to_owned);
    }
    let manifest = PodManifest { apps, volumes, ..PodManifest::new(SemVer::APPC) };
    let found = number(&manifest).unwrap();
    let numbers: Vec<Vec<usize>> =
        found.mounts.iter().map(|app| app.iter().map(|mount| mount.volume).collect()).collect();
    assert_eq!(numbers, [vec![0], vec![1], vec![0, 2]]);
    assert_eq!(found.volumes.len(), 3);
}

#[test]
fn a_manifest_s_own_volume_of_a_mount_beats_the_pod_s_and_a_missing_one_is_told() {
    let image = RuntimeImage { name: None, id: ID.parse().unwrap(), labels: vec![] };
    let mut app = RuntimeApp::new("web".parse().unwrap(), image);
    app.mounts = mounts(&["data /d"]);
    let mut manifest = PodManifest { apps: vec![app], ..PodManifest::new(SemVer::APPC) };
    assert_eq!(number(&manifest).unwrap_err().to_string(), "could not find volume data");
    manifest.volumes = volumes(&["data,kind=empty"]);
    manifest.apps[0].mounts[0].app_volume = volumes(&["data,kind=host,source=/own"]).pop();
    assert_eq!(number(&manifest).unwrap().volumes[0].kind, VolumeKind::Host { source: "/own".into() });

    let twice = volumes(&["data,kind=empty", "data,kind=host,source=/x"]);
    assert_eq!(check_names(&twice).unwrap_err().to_string(), "duplicate volume name \"data\"");
}

/// Resolves paths in an image with hostile links.
fn resolved(paths: &[&str]) -> Result<Vec<String>, String> {
    let dir = tempfile::tempdir().unwrap();
    for name in ["etc", "proc", "var", "run", "dev", "sys"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    for (link, to) in [
        ("up", "/../../etc"),
        ("magic", "/proc/1/root/etc"),
        ("absolute", "/etc"),
        ("chain", "absolute/../chain2"),
        ("chain2", "var/deep"),
        ("root", "/"),
        ("devices", "dev"),
        ("loop", "loop"),
        ("var/run", "../run"),
    ] {
        symlink(to, dir.path().join(link)).unwrap();
    }
    let volume = PodVolume {
        name: "v".parse().unwrap(),
        kind: VolumeKind::EMPTY,
        access: Access::ReadWrite,
        submounts: Submounts::Included,
    };
    let mounts: Vec<Numbered> =
        paths.iter().map(|path| Numbered { volume: 0, path: (*path).to_owned() }).collect();
    let root = Root::open(dir.path()).unwrap();
    let answer = resolve(&"web".parse().unwrap(), &mounts, &[volume], &root);
    answer
        .map(|mounts| mounts.into_iter().map(|mount| mount.target).collect())
        .map_err(|error| error.to_string().replace(&*dir.path().to_string_lossy(), "ROOT"))
}

#[test]
fn a_target_leads_through_the_links_of_its_image_and_stays_inside() {
    for (path, expected) in [
        ("/data", "/data"),
        ("data/x", "/data/x"),
        ("/a/../../b//c/.", "/b/c"),
        ("/up/x", "/etc/x"),
        ("/absolute", "/etc"),
        ("/chain/x", "/var/deep/x"),
        ("/dev/mine", "/dev/mine"),
        ("/devices/mine", "/dev/mine"),
        ("/sys", "/sys"),
        ("/sys/fs/cgroup", "/sys/fs/cgroup"),
        ("/var/run/x", "/run/x"),
        ("/etc/a b:c%d", "/etc/a b:c%d"),
    ] {
        assert_eq!(resolved(&[path]), Ok(vec![expected.to_owned()]), "{path}");
    }
}

#[test]
fn a_target_that_belongs_to_somebody_else_is_refused() {
    let refused =
        |text: &str, reason: &str| format!("app \"web\": nothing can be mounted on {text}: {reason}");
    let (whole, devices) =
        ("it would replace the whole root of the app", "the app's devices are there; name a path below it");
    let (kernel, systemd) = ("the kernel's files are there", "systemd's sockets are there");
    for (path, expected) in [
        ("/", refused("\"/\"", whole)),
        ("/x/..", refused("\"/\"", whole)),
        ("/root", refused("\"/root\" (in its image a link to \"/\")", whole)),
        ("/dev/", refused("\"/dev\"", devices)),
        ("/devices", refused("\"/devices\" (in its image a link to \"/dev\")", devices)),
        ("/proc", refused("\"/proc\"", kernel)),
        ("/proc/sys/kernel", refused("\"/proc/sys/kernel\"", kernel)),
        ("/magic", refused("\"/magic\" (in its image a link to \"/proc/1/root/etc\")", kernel)),
        ("/run/systemd/journal", refused("\"/run/systemd/journal\"", systemd)),
        (
            "/var/run/systemd",
            refused("\"/var/run/systemd\" (in its image a link to \"/run/systemd\")", systemd),
        ),
        ("/loop", "following the links of ROOT/loop: Too many levels of symbolic links".into()),
    ] {
        assert_eq!(resolved(&[path]), Err(expected), "{path}");
    }
    assert_eq!(
        resolved(&["/absolute/x", "/etc/x"]),
        Err("app \"web\": \"/absolute/x\" and \"/etc/x\" are the same path in its image, \"/etc/x\"".into())
    );
    let long = format!("/{}", "x/".repeat(LONGEST_TARGET / 2));
    let begin: String = long.chars().take(60).collect();
    assert_eq!(
        resolved(&[&long]),
        Err(format!("app \"web\": the path of a mount is longer than 3840 bytes: {begin:?}…"))
    );
}

#[test]
fn an_empty_volume_of_one_mount_is_shared_with_nobody() {
    let own = |name: &str, read_only| Volume {
        name: name.parse().unwrap(),
        kind: VolumeKind::EMPTY,
        read_only,
        recursive: None,
    };
    let mount = |path: &str, own: Option<Volume>| Mount {
        volume: "data".parse().unwrap(),
        path: path.into(),
        app_volume: own,
    };
    let host = Volume { kind: VolumeKind::Host { source: "/s".into() }, ..own("data", None) };
    let mut web = app("web", &["data /d ro"]);
    web.mounts = vec![
        mount("/a", Some(own("data", None))),
        mount("/b", Some(own("data", Some(false)))),
        mount("/c", Some(host.clone())),
        mount("/d", None),
    ];
    let mut db = app("db", &[]);
    db.mounts = vec![mount("/a", Some(own("data", None)))];
    let volumes = volumes(&["data,kind=empty"]);
    let mut manifest = PodManifest { apps: vec![web, db], volumes, ..PodManifest::new(SemVer::APPC) };
    part(&mut manifest);
    let mounts: Vec<Vec<String>> = manifest.apps.iter().map(|app| shown(&app.mounts)).collect();
    assert_eq!(mounts, [vec!["web-data /a", "web-data-2 /b", "data /c", "data /d"], vec!["db-data /a"]]);
    let volumes: Vec<_> =
        manifest.volumes.iter().map(|volume| (volume.name.as_str(), volume.read_only)).collect();
    let [given, rest @ ..] = volumes.as_slice() else { panic!("no volumes") };
    assert_eq!(*given, ("data", None));
    assert_eq!(rest, [("web-data", Some(true)), ("web-data-2", Some(false)), ("db-data", Some(false))]);
    let own: Vec<_> =
        manifest.apps.iter().flat_map(|app| &app.mounts).map(|mount| &mount.app_volume).collect();
    assert_eq!(own, [&None, &None, &Some(host), &None, &None]);
}
