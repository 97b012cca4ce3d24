//! Generated values for the property tests: valid manifests, and JSON that is nearly one.

use std::collections::BTreeMap;

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use super::{
    app::{App, EnvironmentVariable, Event, EventHandler, MountPoint, Port},
    image_id::{ImageHash, ImageId},
    image_manifest::{Dependency, ImageManifest},
    isolator::Isolator,
    label::{Annotation, Label},
    name::{AcIdentifier, AcName},
    pod_manifest::{ExposedPort, PodManifest, RuntimeApp, RuntimeImage},
    semver::SemVer,
    volume::{Mount, Volume, VolumeKind},
};

fn name() -> impl Strategy<Value = AcName> {
    "[a-z0-9]{1,5}(-[a-z0-9]{1,3}){0,2}".prop_map(|text| text.parse().unwrap())
}

fn identifier() -> impl Strategy<Value = AcIdentifier> {
    "[a-z0-9]{1,5}([-._~/][a-z0-9]{1,3}){0,3}".prop_map(|text| text.parse().unwrap())
}

/// Any text without NUL: controls, quotes and line ends included.
fn text() -> impl Strategy<Value = String> {
    vec(prop_oneof![any::<char>(), select(vec!['"', '\\', '\n', '\u{1b}', '%', '$', '\u{2028}'])], 0..6)
        .prop_map(|chars| chars.into_iter().filter(|c| *c != '\0').collect())
}

fn path() -> impl Strategy<Value = String> {
    text().prop_map(|text| format!("/{text}"))
}

fn string_map() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map(text(), text(), 0..3)
}

fn version() -> impl Strategy<Value = SemVer> {
    "[0-9]{1,2}\\.[1-9]{1,2}\\.(0|[1-9][0-9]?)(-[a-z]{1,3}(\\.[0-9a-z]{1,2})?)?(\\+[a-z0-9]{1,3})?"
        .prop_filter_map("no leading zero", |text| text.parse().ok())
}

fn labels() -> impl Strategy<Value = Vec<Label>> {
    let platform = select(vec![
        vec![],
        vec![("os", "linux"), ("arch", "amd64")],
        vec![("arch", "anything"), ("version", "1.0")],
        vec![("os", "darwin"), ("arch", "x86_64")],
    ]);
    (platform, vec((identifier(), text()), 0..3)).prop_map(|(platform, others)| {
        let mut labels: Vec<Label> =
            platform.into_iter().map(|(name, value)| Label::new(name.parse().unwrap(), value)).collect();
        for (name, value) in others {
            let taken = labels.iter().any(|label| label.name == name)
                || ["name", "os", "arch"].contains(&name.as_str());
            if !taken {
                labels.push(Label::new(name, value));
            }
        }
        labels
    })
}

fn annotations() -> impl Strategy<Value = Vec<Annotation>> {
    let known = select(vec![
        vec![],
        vec![("created", "2026-01-31T12:00:00.5+01:00"), ("homepage", "https://example.com/x")],
        vec![("authors", "Free <text>")],
    ]);
    (known, text()).prop_map(|(known, free)| {
        known
            .into_iter()
            .map(|(name, value)| Annotation::new(name.parse().unwrap(), value))
            .chain([Annotation::new("coreos.com/free".parse().unwrap(), free)])
            .collect()
    })
}

fn isolators() -> impl Strategy<Value = Vec<Isolator>> {
    let quantity = || {
        prop_oneof![
            "[0-9]{1,3}(\\.[0-9]{1,3})?(n|u|m|k|K|M|G|Ki|Mi|Gi|e3|E-2)?".prop_map(Value::from),
            any::<u32>().prop_map(Value::from),
        ]
    };
    let resource = (quantity(), option::of(quantity()))
        .prop_map(|(limit, request)| json!({"default": false, "request": request, "limit": limit}));
    let set = || (vec("@?[a-z_/]{1,8}", 1..4), option::of("E[A-Z0-9]{1,5}"));
    let one = prop_oneof![
        (select(vec!["resource/memory", "resource/cpu"]), resource),
        (
            select(vec!["resource/block-bandwidth", "resource/block-iops", "resource/network-bandwidth"]),
            quantity().prop_map(|limit| json!({"default": true, "limit": limit})),
        ),
        (Just("os/linux/cpu-shares"), (2..=262_144u32).prop_map(Value::from)),
        (Just("os/linux/oom-score-adj"), (-1000..=1000i32).prop_map(Value::from)),
        (Just("os/linux/no-new-privileges"), any::<bool>().prop_map(Value::from)),
        (
            select(vec!["os/linux/seccomp-retain-set", "os/linux/seccomp-remove-set"]),
            set().prop_map(|(set, errno)| json!({"set": set, "errno": errno})),
        ),
        (
            select(vec!["os/linux/capabilities-retain-set", "os/linux/capabilities-remove-set"]),
            set().prop_map(|(set, _)| json!({"set": set})),
        ),
        (
            Just("os/linux/selinux-context"),
            "[a-z_]{1,6}".prop_map(|part| json!({"user": part, "role": "r", "type": part, "level": "s0"})),
        ),
    ];
    vec(one.prop_map(|(name, value)| Isolator::parse(name, &value).unwrap()), 0..4).prop_map(|isolators| {
        if super::isolator::check_set(&isolators).is_ok() { isolators } else { Vec::new() }
    })
}

fn port() -> impl Strategy<Value = Port> {
    (name(), select(vec!["tcp", "udp", ""]), 1..=60_000u16, 1..=5_000u16, any::<bool>()).prop_map(
        |(name, protocol, port, count, socket_activated)| Port {
            name,
            protocol: protocol.to_owned(),
            port,
            count,
            socket_activated,
        },
    )
}

pub(super) fn app() -> impl Strategy<Value = App> {
    let execution = (vec(text(), 0..4), "[a-z0-9/]{1,5}", "[a-z0-9/]{1,5}", vec(0..u32::MAX, 0..3));
    let place = (option::of(path()), vec(("[A-Za-z_][A-Za-z_0-9.-]{0,5}", text()), 0..4));
    let handlers = (option::of(vec(text(), 0..3)), option::of(vec(text(), 0..3)));
    let mount_point = (name(), path(), any::<bool>()).prop_map(|(name, path, read_only)| MountPoint {
        name,
        path,
        read_only,
    });
    let maps = (string_map(), string_map());
    (execution, place, handlers, vec(mount_point, 0..3), vec(port(), 0..3), isolators(), maps).prop_map(
        |(
            (exec, user, group, gids),
            (directory, variables),
            (before, after),
            mount_points,
            ports,
            isolators,
            maps,
        )| {
            let handler = |name, exec: Option<_>| exec.map(|exec| EventHandler { name, exec });
            let variables: BTreeMap<String, String> = variables.into_iter().collect();
            App {
                exec,
                supplementary_gids: gids,
                event_handlers: handler(Event::PreStart, before)
                    .into_iter()
                    .chain(handler(Event::PostStop, after))
                    .collect(),
                working_directory: directory.unwrap_or_default(),
                environment: variables
                    .into_iter()
                    .map(|(name, value)| EnvironmentVariable { name, value })
                    .collect(),
                mount_points,
                ports,
                isolators,
                user_annotations: maps.0,
                user_labels: maps.1,
                ..App::new(user, group)
            }
        },
    )
}

pub(super) fn image_manifest() -> impl Strategy<Value = ImageManifest> {
    let hash = "sha512-[0-9a-f]{64,128}".prop_map(|text| text.parse::<ImageHash>().unwrap());
    let dependency = (identifier(), option::of(hash), labels(), option::of(1..u64::MAX))
        .prop_map(|(image_name, image_id, labels, size)| Dependency { image_name, image_id, labels, size });
    (
        version(),
        identifier(),
        labels(),
        option::of(app()),
        vec(dependency, 0..3),
        vec(path(), 0..3),
        annotations(),
    )
        .prop_map(|(ac_version, name, labels, app, dependencies, path_whitelist, annotations)| {
            ImageManifest { ac_version, name, labels, app, dependencies, path_whitelist, annotations }
        })
}

fn volume() -> impl Strategy<Value = Volume> {
    let host = path().prop_map(|source| VolumeKind::Host { source });
    let empty = (0..=0o7777u32, 0..u32::MAX, 0..u32::MAX).prop_map(|(mode, uid, gid)| VolumeKind::Empty {
        mode,
        uid,
        gid,
    });
    let flags = (option::of(any::<bool>()), option::of(any::<bool>()));
    (name(), prop_oneof![host, empty], flags).prop_map(|(name, kind, (read_only, recursive))| Volume {
        name,
        kind,
        read_only,
        recursive,
    })
}

fn runtime_app() -> impl Strategy<Value = RuntimeApp> {
    let mount = (name(), path(), option::of(volume())).prop_map(|(volume, path, app_volume)| Mount {
        volume,
        path,
        app_volume,
    });
    let image =
        (option::of(identifier()), vec(any::<u8>(), 64), labels()).prop_map(|(name, digest, labels)| {
            RuntimeImage { name, id: ImageId::from_sha512(&digest.try_into().unwrap()), labels }
        });
    (name(), image, option::of(app()), any::<bool>(), vec(mount, 0..3), annotations()).prop_map(
        |(name, image, app, read_only_root_fs, mounts, annotations)| RuntimeApp {
            name,
            image,
            app,
            read_only_root_fs,
            mounts,
            annotations,
        },
    )
}

pub(super) fn pod_manifest() -> impl Strategy<Value = PodManifest> {
    let exposed = (name(), 1..=u16::MAX, option::of(any::<[u8; 4]>()), option::of(port())).prop_map(
        |(name, host_port, address, pod_port)| ExposedPort {
            name,
            host_port,
            host_ip: address.map(Into::into),
            pod_port,
        },
    );
    let shared = (vec(volume(), 0..3), isolators(), annotations(), vec(exposed, 0..2));
    (version(), vec(runtime_app(), 0..3), shared, string_map(), string_map()).prop_map(
        |(
            ac_version,
            mut apps,
            (mut volumes, isolators, annotations, ports),
            user_annotations,
            user_labels,
        )| {
            apps.sort_by(|a, b| a.name.cmp(&b.name));
            apps.dedup_by(|a, b| a.name == b.name);
            volumes.sort_by(|a, b| a.name.cmp(&b.name));
            volumes.dedup_by(|a, b| a.name == b.name);
            PodManifest {
                ac_version,
                apps,
                volumes,
                isolators,
                annotations,
                ports,
                user_annotations,
                user_labels,
            }
        },
    )
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-70_000..70_000i64).prop_map(Value::from),
        (-1e9..1e9).prop_map(|number: f64| json!(number)),
        text().prop_map(Value::from),
        select(vec!["", "a", "a-b", "A", "/", "host", "empty", "1x", "0.0.0", "sha512-00"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec(("(name|value|set|limit|[a-z]{1,3})", inner), 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A document with one place, picked by `place`, replaced by any value, or removed.
pub(super) fn nearly(document: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    (document, any::<usize>(), option::of(any_value())).prop_map(|(mut document, place, value)| {
        let count = count(&document);
        replace(&mut document, &mut (place % count), value.as_ref());
        document
    })
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

/// Walks the document in order; the value at which `place` has come to 0 is replaced. Tells whether it was.
fn replace(value: &mut Value, place: &mut usize, by: Option<&Value>) -> bool {
    if *place == 0 {
        *value = by.cloned().unwrap_or(Value::Null);
        return true;
    }
    *place -= 1;
    match value {
        Value::Array(list) => list.iter_mut().any(|element| replace(element, place, by)),
        Value::Object(members) => members.values_mut().any(|member| replace(member, place, by)),
        _ => false,
    }
}
