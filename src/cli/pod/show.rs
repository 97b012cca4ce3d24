//! How a pod is shown: the fields of `list` and `status`, as text and as JSON (spec cli.md 1.2.4, 1.2.5).
//!
//! The JSON has its own structs, apart from what is on disk.

use serde::Serialize;
use std::collections::BTreeMap;

use crate::cli::format::{nanoseconds, timestamp};
use crate::net::record::Entry;
use crate::pod::observe::{Observed, ObservedApp, ObservedMount, State};

/// A pod in JSON.
#[derive(Debug, Serialize)]
pub struct PodJson {
    name: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    networks: Vec<NetworkJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    app_names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    apps: Vec<AppJson>,
    /// Seconds since the epoch.
    created_at: i64,
    /// Seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<i64>,
}

/// A network in JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NetworkJson {
    net_name: String,
    net_conf: String,
    plugin_path: String,
    if_name: String,
    ip: String,
    args: String,
    mask: String,
}

impl NetworkJson {
    fn new(network: &Entry) -> Self {
        let network = network.clone();
        Self {
            net_name: network.net_name,
            net_conf: network.net_conf,
            plugin_path: network.plugin_path.display().to_string(),
            if_name: network.if_name,
            ip: network.ip,
            args: network.args,
            mask: network.mask,
        }
    }
}

/// An app in JSON.
#[derive(Debug, Serialize)]
struct AppJson {
    name: String,
    state: &'static str,
    /// Nanoseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<i64>,
    /// Nanoseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<i64>,
    /// Nanoseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
    image_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_signer: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<MountJson>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    user_annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    user_labels: BTreeMap<String, String>,
}

/// A volume of an app in JSON.
#[derive(Debug, Serialize)]
struct MountJson {
    name: String,
    container_path: String,
    host_path: String,
    read_only: bool,
}

impl PodJson {
    /// Shows `pod`; apps that can't be read are left out, and reported elsewhere.
    pub fn new(pod: &Observed) -> Self {
        let apps: &[ObservedApp] = pod.apps.as_deref().unwrap_or_default();
        Self {
            name: pod.uuid.to_string(),
            state: pod.state.as_str(),
            networks: pod.networks.iter().map(NetworkJson::new).collect(),
            app_names: apps.iter().map(|app| app.name.to_string()).collect(),
            apps: apps.iter().map(|app| app_json(pod, app)).collect(),
            created_at: pod.created.map_or(0, |time| timestamp(time).as_second()),
            started_at: pod.started.map(|time| timestamp(time).as_second()),
        }
    }
}

fn app_json(pod: &Observed, app: &ObservedApp) -> AppJson {
    let state = match (app.end, pod.state) {
        (Some(_), _) => "exited",
        (None, State::Running) => "running",
        (None, State::Embryo | State::Preparing | State::AbortedPrepare | State::Prepared) => "created",
        (
            None,
            State::Deleting | State::ExitedDeleting | State::Exited | State::ExitedGarbage | State::Garbage,
        ) => "exited",
    };
    AppJson {
        name: app.name.to_string(),
        state,
        created_at: pod.created.map(nanoseconds),
        started_at: pod.started.map(nanoseconds),
        finished_at: app.end.and_then(|end| end.finished).map(nanoseconds),
        exit_code: app.end.map(|end| end.exit_code),
        image_id: app.image_id.to_string(),
        image_signer: app.image_signer.clone(),
        mounts: app.mounts.iter().map(mount_json).collect(),
        user_annotations: app.user_annotations.iter().cloned().collect(),
        user_labels: app.user_labels.iter().cloned().collect(),
    }
}

fn mount_json(mount: &ObservedMount) -> MountJson {
    MountJson {
        name: mount.name.to_string(),
        container_path: mount.container_path.to_string_lossy().into_owned(),
        host_path: mount.host_path.to_string_lossy().into_owned(),
        read_only: mount.read_only,
    }
}
